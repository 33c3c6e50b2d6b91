from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from explorer.core.errors import Cancelled, EvaluationError, RecipeError, UnsupportedError
from explorer.core.recipe import Recipe
from explorer.evaluate import engine as engines
from explorer.evaluate.engine import engine
from explorer.evaluate.evaluator import evaluate, stream
from explorer.models.device import devices, pick
from explorer.models.subject import Subject
from explorer.models.task import Task, to_device
from tests.contract.nets import MLP, classification, few, tiny, tuned


@pytest.fixture
def big(device: str) -> Subject:
    torch.manual_seed(0)
    return tuned(Subject(MLP().to(device), classification((6,), n=1500), "big"))


@pytest.fixture
def calls(big: Subject, device: str) -> Iterator[list[int]]:
    """The sizes of all chunks evaluated from here on."""
    run, seen = engine(big, torch.device(device)), []
    account = run._account

    def noted(job: Any, work: Any, size: int, spent: float, short: bool) -> None:
        seen.append(size)
        account(job, work, size, spent, short)

    run._account = noted  # type: ignore[method-assign]
    yield seen


RECIPE = Recipe().prune("fc.0", sparsity=0.5)


def test_two_identical_evaluations_cost_one(big: Subject, calls: list[int], device: str) -> None:
    first = evaluate(big, RECIPE, device=device)
    assert sum(calls) == 2 * 1500  # the original and the compressed
    again = evaluate(big, RECIPE, device=device)
    assert sum(calls) == 2 * 1500 and again.metrics == first.metrics
    evaluate(big, RECIPE.quantize("fc.1", bits=4), device=device)
    assert sum(calls) == 3 * 1500  # the original's answers are shared
    assert engine(big, torch.device(device)).chunks == len(calls)


def test_equal_plans_share_their_answers(big: Subject, calls: list[int], device: str) -> None:
    evaluate(big, RECIPE, device=device)
    cut = big.weight("fc.0.weight").abs().flatten().sort().values[23]
    evaluate(big, Recipe().prune("fc.0", threshold=float(cut)), device=device)
    evaluate(big, RECIPE.named("another name"), device=device)
    evaluate(big, Recipe().prune("*", sparsity=0.9).clear("*").prune("fc.0.weight", sparsity=0.5), device=device)
    assert sum(calls) == 2 * 1500


def test_two_threads_that_ask_for_the_same_cost_one(big: Subject, calls: list[int], device: str) -> None:
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(evaluate(big, RECIPE, device=device).metrics)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(calls) == 2 * 1500 and len(results) == 4 and all(one == results[0] for one in results)


def test_threads_with_different_recipes_do_not_mix(big: Subject, device: str) -> None:
    recipes = [Recipe().prune("*", sparsity=s / 10).quantize("*", bits=2 + s % 7) for s in range(8)]
    alone = [evaluate(tuned(Subject(big.module, big.task)), r, device=device).metrics for r in recipes]
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda i=i, r=r: found.update({i: evaluate(big, r, device=device)}))
        for i, r in enumerate(recipes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [dict(found[i].metrics) for i in range(8)] == [dict(one) for one in alone]
    assert all(found[i].macs == found[0].macs for i in range(8))


def test_one_subject_has_one_engine_a_device(device: str) -> None:
    subject = tiny(device=device)
    assert engine(subject, torch.device(device)) is engine(subject, torch.device(device))
    assert engine(subject, torch.device(device)) is not engine(tiny(device=device), torch.device(device))


def test_cancel_stops_within_a_chunk(big: Subject, calls: list[int], device: str) -> None:
    asked: list[int] = []

    def cancel() -> bool:
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(Cancelled, match="big: cancelled"):
        evaluate(big, RECIPE, device=device, cancel=cancel)
    assert len(asked) == 4 and sum(calls) <= 3 * 64  # asked before every batch, and not once more after it said yes
    with pytest.raises(Cancelled):
        list(stream(big, RECIPE, device=device, cancel=lambda: True))
    assert evaluate(big, RECIPE, device=device).n == 1500 and sum(calls) <= 2 * 1500 + 64  # what was seen is kept


def test_progress_runs_to_its_end(big: Subject, device: str) -> None:
    told: list[tuple[int, int]] = []
    evaluate(big, RECIPE, device=device, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (3000, 3000) and [d for d, _ in told] == sorted(d for d, _ in told)
    assert {total for _, total in told} == {3000}
    told.clear()
    evaluate(tuned(Subject(big.module, big.task)), device=device, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (1500, 1500)


@pytest.mark.parametrize(
    "recipe", [Recipe(), RECIPE, Recipe().prune("fc.0", sparsity=0.5, granularity="unit").quantize("*", bits=3)]
)
def test_a_stream_sharpens_to_what_evaluate_says(big: Subject, recipe: Recipe, device: str) -> None:
    reports = list(stream(big, recipe, device=device))
    sizes = [report.n for report in reports]
    assert sizes == sorted(set(sizes)) and sizes[-1] == 1500 and sizes[0] >= 32
    assert [report.complete for report in reports] == [False] * (len(reports) - 1) + [True]
    fresh = evaluate(tuned(Subject(big.module, big.task)), recipe, device=device)
    assert (
        reports[-1].metrics == fresh.metrics
        and reports[-1].figures == fresh.figures
        and reports[-1].changes == fresh.changes
    )
    assert reports[-1].changed == fresh.changed


def test_a_prefix_of_the_stream_judges_its_own_samples(big: Subject, device: str) -> None:
    run = engine(big, torch.device(device))  # 64 samples fit 40 ms
    reports = list(stream(big, RECIPE, device=device))
    assert [report.n for report in reports] == [64, 256, 1500]
    data = run.data("validation")
    x = to_device(big.task.batch("validation", data.order[:64].tolist()), device)
    with torch.no_grad():
        right = big.module(x[0]).argmax(1) == x[1]
    before = reports[0].metrics["accuracy"] - reports[0].change("accuracy").value
    assert before == pytest.approx(right.float().mean().item())
    assert {c.index for c in reports[0].changed} <= set(data.order[:64].tolist())
    low, high = (reports[0].change("accuracy").low, reports[0].change("accuracy").high)
    assert (
        low <= reports[0].change("accuracy").value <= high
        and high - low > reports[1].change("accuracy").high - reports[1].change("accuracy").low
    )


def test_figures_do_not_depend_on_how_they_came_about(big: Subject, device: str) -> None:
    """First in small steps by a stream, then as a whole: the same chunks, so the same numbers to the last bit."""
    streamed = list(stream(big, RECIPE, device=device))[-1]
    whole = evaluate(tuned(Subject(big.module, big.task)), RECIPE, device=device)
    assert streamed.metrics == whole.metrics


def test_many_plans_do_not_push_out_what_is_being_read(
    big: Subject, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(engines, "KEPT", 1)
    for bits in (2, 3, 4):
        report = evaluate(big, Recipe().quantize("*", bits=bits), device=device)
        assert report.n == 1500 and len(report.changed) == sum(1 for _ in report.changed)
    for report in stream(big, RECIPE, device=device):
        evaluate(big, Recipe().quantize("*", bits=5), device=device)
        assert report.metrics["accuracy"] > 0


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(engines, "KEPT", 5)
    subject = tiny(device=device)
    subject.memo.budget = 50_000
    for i in range(40):
        evaluate(subject, Recipe().prune("*", sparsity=i / 41), device=device).to_dict()
    assert len(engine(subject, torch.device(device))._seen) <= 5 and subject.memo.used <= 50_000


@pytest.mark.parametrize("n", [1, 2, 31, 33])
def test_small_splits(n: int, device: str) -> None:
    x = torch.randn(n, 6)
    subject = Subject(
        MLP().to(device), Task.classification(validation=TensorDataset(x, torch.zeros(n, dtype=torch.long)))
    )
    report = evaluate(subject, Recipe().prune("*", sparsity=0.5, granularity="unit"), device=device)
    assert report.n == report.total == n and 0 <= report.figure("accuracy").low <= report.metrics["accuracy"]
    assert [r.n for r in stream(subject, device=device)][-1] == n


def test_unknown_precision_and_device(device: str) -> None:
    with pytest.raises(RecipeError, match="full, fast"):
        evaluate(tiny(device=device), precision="half")
    for wrong in ("cudda", "meta", "tpu:1", "cuda:99"):
        with pytest.raises(UnsupportedError, match="cpu"):
            evaluate(tiny(device=device), device=wrong)
    assert pick(None) == torch.device(devices()[0]) and devices()[-1] == "cpu"


@pytest.mark.parametrize("name", ["fashion-lenet5", "fashion-vit", "moby-lstm", "bikes-mlp"])
def test_the_fast_precision_is_close_and_paired_with_itself(name: str, device: str) -> None:
    shared = few(name, device=device)
    subject = tuned(Subject(shared.module, shared.task, name), dtype=torch.bfloat16)
    layer = subject.layers[1].name
    recipe = Recipe().prune(layer, sparsity=0.5)
    fast, full = evaluate(subject, recipe, precision="fast", device=device), evaluate(subject, recipe, device=device)
    assert (fast.precision, full.precision) == ("bf16", "fp32")
    assert fast.metrics[fast.main] == pytest.approx(full.metrics[full.main], rel=0.1)
    same = evaluate(subject, precision="fast", device=device)
    assert all(figure.value == 0 for figure in same.changes.values())
    assert subject.module.training is False and {p.dtype for p in subject.module.parameters()} == {torch.float32}
    assert fast.sparsity == full.sparsity and fast.bytes == full.bytes


def test_fast_falls_back_where_the_dtype_does_not_work(device: str) -> None:
    class Picky(MLP):
        def forward(self, x: Tensor) -> Tensor:
            if x.dtype != torch.float32:
                raise TypeError("float32 only")
            return super().forward(x)

    subject = tiny(Picky(), device=device)
    assert evaluate(subject, precision="fast", device=device).precision == "fp32"


def test_shuffled_targets_of_a_wrapper_do_not_confuse_the_order(device: str) -> None:
    class Wrapped:
        def __init__(self) -> None:
            self.targets = list(range(3)) * 100  # of the whole set, of which this shows a part

        def __len__(self) -> int:
            return 40

        def __getitem__(self, i: int) -> tuple[Tensor, int]:
            return torch.full((6,), float(i)), i % 3

    subject = Subject(MLP().to(device), Task.classification(validation=Wrapped()))
    assert evaluate(subject, device=device).n == 40
    one_hot = TensorDataset(torch.randn(40, 6), torch.eye(3)[torch.arange(40) % 3])
    with pytest.raises(EvaluationError, match="targets"):
        evaluate(Subject(MLP().to(device), Task.classification(validation=one_hot)), device=device)
