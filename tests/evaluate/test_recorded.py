"""Recorded replays: a stand-in for CUDA graphs does on the CPU what they do, so that all copying and all doubt is tried; on a GPU they are real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from explorer.core.recipe import Recipe
from explorer.evaluate.engine import Engine
from explorer.evaluate.recorded import Recorded
from explorer.evaluate.recorder import CudaRecorder, Recording
from explorer.evaluate.tune import Tuning
from tests.contract.nets import MLP, few, randomize, tiny
from tests.evaluate.test_replay import TUNED as FUSED
from tests.evaluate.test_replay import columns, edited, the_same

BUDGET = 1 << 28


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use of a part from values in front is recorded."""
    monkeypatch.setattr("explorer.evaluate.recorded.ON_USE", 1)


class Again:
    """Does the work again, and writes it where it wrote it the first time, as a graph does."""

    bytes = 0

    def __init__(self, compute: Callable[[], Any]) -> None:
        self.compute = compute
        self.outputs = tree_map_only(Tensor, torch.clone, compute())
        self.calls = 0

    def replay(self) -> Any:
        self.calls += 1
        for old, new in zip(tree_leaves(self.outputs), tree_leaves(self.compute()), strict=True):
            if isinstance(old, Tensor):
                old.copy_(new)
        return self.outputs


class Stale(Again):
    """Gives what it gave when it was recorded."""

    def replay(self) -> Any:
        return self.outputs


class Drifting(Again):
    """Remembers something from run to run."""

    def replay(self) -> Any:
        found = super().replay()
        return found if self.calls < 3 else tree_map_only(Tensor, lambda one: one + 1e-6, found)


class FakeRecorder:
    """Of recordings of a class. slow: seconds that a replay takes where the rest takes one."""

    def __init__(self, device: str, make: Callable[[Any], Any] = Again, slow: float = 0.0) -> None:
        self.make, self.slow, self.device = make, slow, torch.device(device)
        self.made: list[Any] = []
        self.asked = 0

    def record(self, compute: Callable[[], Any]) -> Recording:
        self.made.append(self.make(compute))
        return self.made[-1]  # type: ignore[no-any-return]

    def seconds(self, work: Callable[[], Any]) -> float:
        work()
        self.asked += 1
        return 1.0 if self.asked % 2 else self.slow


TUNED = replace(FUSED, fused=False)  # these are a CPU's, which records nothing


def pair_of(subject: Any, recorder: Any, budget: int = BUDGET, tuned: Tuning = TUNED) -> tuple[Engine, Engine]:
    """One that records, and one that runs all of the module every time."""
    pair = tuple(Engine(subject, recorder.device, tuned) for _ in range(2))
    pair[0].recorded = Recorded(pair[0].replica, recorder, budget)
    whole = pair[1].jobs
    whole.job = lambda plan, split, check: whole.whole(plan)  # type: ignore[method-assign, assignment]
    return pair  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["fashion-lenet5", "fashion-resnet", "vowels-lstm", "fashion-vit"])
def test_drags_are_replayed_to_the_last_bit(name: str, at_once: None, device: str) -> None:
    subject = few(name, device=device)
    pair = pair_of(subject, FakeRecorder(device))
    layers = [layer.name for layer in subject.layers]
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        base = Recipe().prune(layers[1], sparsity=0.3)
        for sparsity in (0.2, 0.4, 0.5, 0.6):
            the_same(pair, base.prune(layer, sparsity=sparsity))
        the_same(pair, base.quantize(layer, bits=4, granularity="channel"))
    for sparsity in (0.2, 0.4, 0.5):
        the_same(pair, Recipe().prune(subject.groups[-1].producers[0], sparsity=sparsity, granularity="unit"))
    assert not pair[0].recorded.reason
    assert pair[0].recorded.replays >= 6


def test_random_edits_give_what_they_give_without_recordings(at_once: None, device: str) -> None:
    subject = few("bikes-mlp", device=device)
    pair = pair_of(subject, FakeRecorder(device))
    names, groups = [layer.name for layer in subject.layers][-2:], [group.producers[0] for group in subject.groups][:1]
    step = st.tuples(
        st.sampled_from(["prune", "quantize", "shrink", "scale"]), st.sampled_from(names), st.integers(1, 9)
    )
    units = st.tuples(st.just("units"), st.sampled_from(groups), st.integers(1, 9))

    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(st.one_of(step, step, step, units), min_size=15, max_size=50))
    def check(steps: list[tuple[str, str, int]]) -> None:
        recipe = Recipe()
        for one in steps:
            recipe = edited(recipe, *one)
            the_same(pair, recipe)
        for tenths in range(1, 7):  # however little of what was drawn came to be recorded
            the_same(pair, edited(recipe, "prune", names[-1], tenths))

    check()
    assert not pair[0].recorded.reason and pair[0].recorded.replays >= 10


def test_a_drag_replays_one_recording_a_chunk_and_calls_no_module(device: str) -> None:
    subject = tiny(MLP(), n=100, device=device)
    recorder = FakeRecorder(device)
    run = pair_of(subject, recorder)[0]
    for sparsity in (0.2, 0.3, 0.4, 0.5):  # the first fills what is in front, the third comes to be recorded
        columns(run, Recipe().prune("fc.2", sparsity=sparsity))
    called: list[str] = []
    for name, child in run.replica.module.named_modules():
        child.register_forward_pre_hook(lambda *_, name=name: called.append(name))  # type: ignore[misc]
    for one in recorder.made:
        one.compute = lambda one=one: one.outputs  # a graph knows no modules
    replays = run.recorded.replays
    columns(run, Recipe().prune("fc.2", sparsity=0.6))
    assert run.recorded.replays - replays == len(run.data("validation").looks) == 2
    assert not called


@pytest.mark.parametrize("make", [Stale, Drifting])
def test_a_replay_that_gives_something_else_is_never_used(make: Any, device: str) -> None:
    subject = tiny(MLP(), n=100, device=device)
    pair = pair_of(subject, FakeRecorder(device, make))
    for sparsity in (0.2, 0.3, 0.4, 0.5, 0.6):
        the_same(pair, Recipe().prune("fc.1", sparsity=sparsity))
    assert "differed" in pair[0].recorded.reason
    assert pair[0].recorded.recorder is None and pair[0].recorded.replays == 0 and not len(pair[0].recorded)


@pytest.mark.parametrize("forgotten", range(4))
def test_every_weight_that_a_part_reads_is_compared(forgotten: int, device: str) -> None:
    class Forgetful(Again):
        """Reads one of the weights where it lay when it was recorded."""

        def replay(self) -> Any:
            weights = self.compute.args[1]  # type: ignore[attr-defined]
            name = sorted(weights)[forgotten]
            now = weights[name].clone()
            weights[name].copy_(self.then[name])
            found = super().replay()
            weights[name].copy_(now)
            return found

        def __init__(self, compute: Any) -> None:
            super().__init__(compute)
            self.then = {name: one.clone() for name, one in compute.args[1].items()}

    subject = tiny(randomize(MLP()), n=100, device=device)
    pair = pair_of(subject, FakeRecorder(device, Forgetful))
    for sparsity in (0.2, 0.3, 0.4, 0.5):
        the_same(pair, Recipe().prune("fc.1", sparsity=sparsity))
    assert "differed" in pair[0].recorded.reason


def test_what_cannot_be_recorded_is_run_as_ever(device: str) -> None:
    subject = tiny(MLP(), n=100, device=device)

    def fails(compute: Any) -> Any:
        raise torch.OutOfMemoryError("no room for a graph")

    pair = pair_of(subject, FakeRecorder(device, fails))
    for sparsity in (0.2, 0.3, 0.4, 0.5):
        the_same(pair, Recipe().prune("fc.1", sparsity=sparsity))
    assert "no room for a graph" in pair[0].recorded.reason and pair[0].batch == TUNED.batch
    for budget, slow in ((0, 0.0), (BUDGET, 2.0)):  # no memory for it, and no faster by it: nobody's fault
        pair = pair_of(subject, FakeRecorder(device, slow=slow), budget)
        for sparsity in (0.2, 0.3, 0.4, 0.5):
            the_same(pair, Recipe().prune("fc.1", sparsity=sparsity))
        assert not pair[0].recorded.reason and pair[0].recorded.replays == 0


def test_plans_that_change_what_modules_do_are_not_recorded(device: str) -> None:
    recorder = FakeRecorder(device)
    run = pair_of(tiny(MLP(), n=100, device=device), recorder)[0]
    for bits in (3, 4, 5, 6):
        columns(run, Recipe().quantize("fc.1", bits=bits, what="activation"))
    assert not recorder.made


def test_recordings_stay_within_their_number_and_bytes(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr("explorer.evaluate.recorded.KEPT", 2)
    pair = pair_of(tiny(MLP(), n=100, device=device), FakeRecorder(device))
    for layer in ("fc.0", "fc.1", "fc.2"):
        for sparsity in (0.2, 0.3, 0.4, 0.5):
            the_same(pair, Recipe().prune(layer, sparsity=sparsity))
    assert len(pair[0].recorded) == 2
    pair[0].recorded.clear()
    the_same(pair, Recipe().prune("fc.1", sparsity=0.6))


@pytest.mark.parametrize("name", ["fashion-mlp", "fashion-resnet", "vowels-lstm", "fashion-vit"])
def test_cuda_graphs_give_what_their_operations_give(name: str, device: str) -> None:
    if device != "cuda":
        pytest.skip("no GPU that torch can use")
    subject = few(name, device=device)
    pair = pair_of(subject, CudaRecorder(torch.device(device)))
    layers = [layer.name for layer in subject.layers]
    for layer in (layers[0], layers[-1]):
        for sparsity in (0.2, 0.4, 0.5, 0.6):
            the_same(pair, Recipe().prune(layer, sparsity=sparsity))
    assert not pair[0].recorded.reason
