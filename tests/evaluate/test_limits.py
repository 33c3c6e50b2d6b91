"""Evaluations where something is short: memory, samples, a place in the queue, a class."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from explorer.compress.plan import Plan
from explorer.core.errors import EvaluationError
from explorer.core.recipe import Recipe
from explorer.evaluate import data as data_module
from explorer.evaluate import tune
from explorer.evaluate.engine import Engine, engine
from explorer.evaluate.evaluator import evaluate
from explorer.evaluate.queue import Request
from explorer.evaluate.seen import Seen
from explorer.evaluate.tune import Tuning
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.studies.sensitivity import sensitivity
from tests.contract.nets import MLP, tiny, tuned

RECIPE = Recipe().prune("fc.0", sparsity=0.5)


class Hungry(MLP):
    """Takes no more than ``most`` samples at once, as a device without memory does."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.cuda.OutOfMemoryError("no memory left")
        return super().forward(x)


def test_a_device_without_memory_gets_smaller_batches(device: str) -> None:
    subject, plain = (tuned(tiny(one, n=200, device=device)) for one in (Hungry(20), MLP()))
    subject.module.load_state_dict(plain.module.state_dict())
    report = evaluate(subject, RECIPE, device=device)
    assert report.metrics["accuracy"] == evaluate(plain, RECIPE, device=device).metrics["accuracy"]
    assert report.machine["batch"] == 16
    tables = [sensitivity(one, sparsities=(0.3, 0.6), exact=True, device=device) for one in (subject, plain)]
    assert tables[0].metric.tolist() == tables[1].metric.tolist()


@pytest.mark.parametrize("most", [10, 40, 100])
def test_a_device_without_memory_for_what_is_tried_is_measured_with_less(most: int, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(tune, "_known", {})
    found = tune.tuning(tiny(Hungry(most), n=300, device=device), torch.device(device))["full"]
    assert found.batch in {size for size in (*tune.BATCHES, *tune.ON_DEVICE, 8) if size <= most} and 0 < found.rate < float("inf")
    assert device == "cuda" or not found.graphs  # nothing else waits for Python


def test_a_scan_finds_smaller_batches_by_itself(device: str) -> None:
    subject = tuned(tiny(Hungry(8), n=100, device=device))
    assert (sensitivity(subject, sparsities=(0.5,), exact=True, device=device).n == 100).all()
    assert engine(subject, torch.device(device)).batch == 8


def test_a_device_without_memory_for_one_sample_says_so(device: str) -> None:
    with pytest.raises(EvaluationError, match=f"tiny: {device} has no memory for a single sample; accepted: .*no memory left"):
        evaluate(tuned(tiny(Hungry(0), n=100, device=device)), RECIPE, device=device)


def test_a_split_that_the_device_cannot_hold_is_moved_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    real = data_module.to_device

    def move(value: object, *where: object) -> object:
        if isinstance(value, Tensor) and len(value) > 100:
            raise torch.OutOfMemoryError("too much at once")
        return real(value, *where)

    whole = evaluate(tuned(tiny(n=300, device=device)), RECIPE, device=device)
    monkeypatch.setattr(data_module, "to_device", move)
    monkeypatch.setattr(data_module, "preloaded", move)  # on a GPU
    subject = tuned(tiny(n=300, device=device), rate=640)
    report = evaluate(subject, RECIPE, device=device)
    assert not engine(subject, torch.device(device)).data("validation").whole
    assert report.n == 300 and report.metrics["accuracy"] == whole.metrics["accuracy"]


@pytest.mark.parametrize("batch", [1, 10**9])
def test_a_batch_may_be_of_any_size(batch: int, device: str) -> None:
    subject = tuned(tiny(n=90, device=device), batch=batch)
    reference = evaluate(tuned(tiny(n=90, device=device)), RECIPE, device=device)
    assert evaluate(subject, RECIPE, device=device).metrics["accuracy"] == reference.metrics["accuracy"]


def test_a_preview_that_waits_for_anothers_work_lends_it_its_place() -> None:
    seen, slow, quick = Seen(), Request("slow", False), Request("quick", True)
    inside, done = threading.Event(), threading.Event()

    def wait() -> None:
        with seen.held_by(quick):
            done.set()

    with seen.held_by(slow):
        thread = threading.Thread(target=wait)
        thread.start()
        for _ in range(2000):
            if slow.preview:
                break
            inside.wait(0.001)
        assert slow.preview and not done.is_set()
    thread.join(10)
    assert done.is_set()


def test_a_class_missing_and_a_batch_that_is_larger_than_the_split(device: str) -> None:
    x = torch.randn(40, 6)
    data = TensorDataset(x, torch.arange(40) % 2)  # the third class never occurs
    subject = Subject(MLP().to(device), Task.classification(validation=data, classes=["a", "b", "c"]))
    report = evaluate(subject, RECIPE, device=device)
    assert report.per_class["c"].support == 0 and 0 <= report.metrics["f1"] <= 1
    assert report.timing["prefix"] + report.timing["suffix"] > 0 and report.machine["tier"] == "graph"
    assert report.to_dict()["n"] == 40


@pytest.mark.parametrize("measured", [False, True])  # what chunks fit this machine is found by running some samples
def test_one_batch_that_fails_is_named_and_the_others_are_kept(measured: bool, device: str) -> None:
    class Fails(MLP):
        def forward(self, x: Tensor) -> Tensor:
            if bool((x[:, 0] > 50).any()):
                raise RuntimeError("a sample it does not like")
            return super().forward(x)

    subject = tiny(Fails(), n=300, device=device) if measured else tuned(tiny(Fails(), n=300, device=device))
    subject.task.dataset("validation").tensors[0][137, 0] = 99.0
    with pytest.raises(EvaluationError, match="forward failed on sample 137 of validation; .*a sample it does not like"):
        evaluate(subject, RECIPE, device=device)


@pytest.mark.parametrize(("slower", "expected"), [(1.0, 1), (1.5, 2), (4.0, 4)])
def test_no_more_threads_than_help(slower: float, expected: int, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    def seconds(_: object, batch: int) -> float:
        return 1e-4 * {1: slower, 2: 1 + (slower - 1) * (slower > 2) / 3, 4: 1.0}[torch.get_num_threads()]

    monkeypatch.setattr(tune.Candidate, "__call__", seconds)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = tune._measure(tiny(MLP(), device=device), torch.device(device))["full"]
        assert found.threads == (expected if device == "cpu" else None) and torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_an_evaluation_uses_the_threads_that_were_found(device: str) -> None:
    seen: set[int] = set()

    class Counts(MLP):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) == 50:
                seen.add(torch.get_num_threads())
            return super().forward(x)

    subject, before = tiny(Counts(), n=200, device=device), torch.get_num_threads()
    run = Engine(subject, torch.device(device), Tuning(batch=50, rate=5000, threads=before + 1))
    run.jobs.job = lambda plan, split, check: run.jobs.full(plan)  # type: ignore[method-assign]
    with run.work() as work:
        run.ensure(Plan({}, {}), "validation", 200, work)
    assert before + 1 in seen and torch.get_num_threads() == before
