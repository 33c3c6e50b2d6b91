from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Subset, TensorDataset

from explorer.core.errors import TaskError
from explorer.evaluate import data as data_module
from explorer.evaluate.data import SplitData, looks, preloaded, stratified_order
from explorer.evaluate.seen import joined
from explorer.models.task import Task, to_device
from tests.contract.nets import load


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 5))
def test_every_prefix_is_stratified(labels: list[int], seed: int) -> None:
    array = np.array(labels)
    order = stratified_order(array, len(array), seed)
    assert sorted(order.tolist()) == list(range(len(array)))
    counts = {label: 0 for label in set(labels)}
    for n, index in enumerate(order, 1):
        counts[labels[index]] += 1
        for label, count in counts.items():
            assert abs(count - labels.count(label) * n / len(labels)) <= len(counts)


def test_the_order_is_seeded_and_shuffled() -> None:
    labels = np.repeat(np.arange(10), 100)
    assert np.array_equal(stratified_order(labels, 1000), stratified_order(labels, 1000))
    assert not np.array_equal(stratified_order(labels, 1000), stratified_order(labels, 1000, seed=1))
    first = stratified_order(labels, 1000)[:100]
    assert np.bincount(labels[first], minlength=10).min() >= 9
    plain = stratified_order(None, 1000)
    assert sorted(plain.tolist()) == list(range(1000)) and plain[:10].tolist() != list(range(10))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(0, 5))
def test_every_prefix_is_stratified_by_margin_too(labels: list[int], seed: int) -> None:
    array, margins = np.array(labels), np.random.default_rng(seed).normal(size=len(labels))
    order = stratified_order(array, len(array), seed, margins)
    assert sorted(order.tolist()) == list(range(len(array)))
    for label in set(labels):
        mine = [i for i in order if labels[i] == label]
        rank = np.argsort(np.argsort(margins[mine])) / len(mine)
        for n in range(1, len(mine) + 1):  # of any part of the margins, a prefix holds its share: a van der Corput sequence's discrepancy
            for edge in (0.25, 0.5, 0.75):
                assert abs((rank[:n] < edge).sum() - edge * n) <= 2 + np.log2(n) / 2
    plain = stratified_order(array, len(array), seed)
    for n in (5, 20, 60):  # classes keep their shares
        counts = [np.bincount(array[o[:n]], minlength=4) for o in (order, plain)]
        assert np.abs(counts[0] - counts[1]).max() <= 2


def test_a_first_look_is_spread_over_the_margins_of_all_classes() -> None:
    rng = np.random.default_rng(0)
    labels, margins = rng.integers(0, 10, 5000), rng.normal(size=5000)
    lowest = margins < np.quantile(margins, 0.2)
    found = [lowest[stratified_order(labels, 5000, seed, margins)[:64]].mean() for seed in range(60)]
    plain = [lowest[stratified_order(labels, 5000, seed)[:64]].mean() for seed in range(60)]
    assert np.mean(found) == pytest.approx(0.2, abs=0.01) and np.std(found) < 0.7 * np.std(plain)


def test_the_baselines_margins_order_the_first_samples(device: str) -> None:
    x, y = torch.linspace(-1, 1, 400).view(400, 1), torch.arange(400) % 2
    task = Task.classification(validation=TensorDataset(x, y))
    asked: list[int] = []

    def margins(inputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
        asked.append(len(targets))
        return inputs[:, 0].cpu().numpy()

    make = (task, "validation", torch.device(device), None, False, 64)
    split, plain = SplitData(*make, margins, 200), SplitData(*make)
    assert sum(asked) == 200 and set(split.order[:200].tolist()) == set(plain.order[:200].tolist())
    assert torch.equal(split.order[200:], plain.order[200:]) and not torch.equal(split.order[:200], plain.order[:200])
    assert torch.equal(split.chunk(0, 400)[0][:, 0].cpu(), x[split.order, 0])
    assert torch.bincount(split.order[:8] // 50, minlength=8).max() <= 2  # of the pool's eighths by margin
    assert torch.equal(SplitData(*make, lambda x, y: None, 200).order, plain.order)
    assert torch.equal(SplitData(*make, margins, 10).order, plain.order)  # too few to be worth it


@pytest.mark.parametrize(
    ("total", "first", "edges"),
    [
        (1, 64, [1]), (32, 64, [32]), (33, 32, [33]), (96, 64, [96]), (97, 64, [32, 64, 97]), (50, 32, [32, 50]),
        (600, 64, [32, 64, 256, 600]), (10_000, 8192, [2496, 10_000]), (10_000, 4096, [2496, 10_000]),
        (10_000, 2048, [256, 2048, 8192, 10_000]), (2048, 4096, [512, 2048]), (2047, 2048, [2047]),
    ],
)  # fmt: skip
def test_looks(total: int, first: int, edges: list[int]) -> None:
    assert looks(total, first) == edges


def test_looks_cover_everything_in_bounded_chunks() -> None:
    edges = looks(10_000, 128)
    assert edges[-1] == 10_000 and max(np.diff([0, *edges])) == 2048
    assert max(np.diff([0, *looks(100_000, 512)])) == 4096 and max(np.diff([0, *looks(100_000, 2048)])) == 8192


@pytest.mark.parametrize("wrap", ["plain", "subset", "list"])
def test_chunks_are_the_samples_of_the_order(wrap: str, device: str) -> None:
    x, y = torch.arange(70.0).view(70, 1), torch.arange(70) % 3
    data = TensorDataset(x, y)
    data = {"plain": data, "subset": Subset(data, range(70)), "list": [(x[i], int(y[i])) for i in range(70)]}[wrap]  # type: ignore[assignment]
    split = SplitData(Task.classification(validation=data), "validation", torch.device(device))
    found = torch.cat([split.chunk(a, b)[0] for a, b in zip([0, *split.looks], split.looks, strict=False)])
    assert torch.equal(found[:, 0].long().cpu(), split.order)
    targets = torch.cat([split.chunk(a, b)[1] for a, b in zip([0, *split.looks], split.looks, strict=False)])
    assert torch.equal(targets.cpu(), split.order % 3)
    assert torch.bincount(targets[:32], minlength=3).min() >= 9


def test_a_split_over_the_budget_is_read_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    from explorer.evaluate import data as module

    dataset = TensorDataset(torch.arange(100.0).view(100, 1), torch.zeros(100, dtype=torch.long))
    task = Task.classification(validation=dataset)
    whole = SplitData(task, "validation", torch.device(device))
    monkeypatch.setattr(module, "BUDGET", 10)
    parts = SplitData(task, "validation", torch.device(device))
    assert whole._whole is not None and parts._whole is None
    assert torch.equal(whole.chunk(10, 60)[0], parts.chunk(10, 60)[0])


@pytest.mark.parametrize("classes", [True, False])
def test_a_split_that_fits_is_read_once(classes: bool, device: str) -> None:
    class Counting(list):
        reads = 0

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:  # type: ignore[override]
            self.reads += 1
            return super().__getitem__(i)

    data = Counting((torch.randn(4), i % 3) for i in range(70))
    make = Task.classification if classes else Task.regression
    SplitData(make(validation=data), "validation", torch.device(device))
    assert data.reads <= len(data) + 1  # the first also tells the size


def test_targets_that_are_no_classes(device: str) -> None:
    task = Task.classification(validation=[(torch.randn(4), "cat")] * 40)
    with pytest.raises(TaskError, match="'validation': targets .* accepted: a class index"):
        SplitData(task, "validation", torch.device(device))


def test_integers_keep_their_type_in_another_precision(device: str) -> None:
    task = Task.classification(
        validation=TensorDataset(torch.arange(40).view(40, 1), torch.zeros(40, dtype=torch.long))
    )
    split = SplitData(task, "validation", torch.device(device), torch.bfloat16)
    assert split.chunk(0, 4)[0].dtype == torch.int64 and split.chunk(0, 4)[1].dtype == torch.int64


def test_a_samples_validation_split_is_stratified(device: str) -> None:
    split = SplitData(load("vowels-rnn").task, "validation", torch.device(device))
    targets = torch.cat([split.chunk(a, b)[1] for a, b in zip([0, *split.looks], split.looks, strict=False)])
    share = torch.bincount(targets, minlength=9) / len(targets)
    for n in (32, 64, 100):
        assert (torch.bincount(targets[:n], minlength=9) - share * n).abs().max() <= 2


def test_parts_of_a_column_are_joined_without_a_copy_where_they_lie_in_a_row(device: str) -> None:
    whole = torch.arange(60, device=device).view(30, 2)
    inside = joined([whole[3:10], whole[10:11], whole[11:30]])
    assert torch.equal(inside, whole[3:]) and inside.data_ptr() == whole[3:].data_ptr()
    for parts in ([whole[:5], whole[6:9]], [whole[5:9], whole[:5]], [whole[:4], whole[4:8].clone()], [whole.t()[:1], whole.t()[1:]]):
        assert torch.equal(joined(parts), torch.cat(parts))
    ones = [torch.tensor(7, device=device).expand(n) for n in (4, 3)]
    assert torch.equal(joined(ones), torch.full((7,), 7, device=device)) and joined(ones).stride() == (0,)
    other = [ones[0], torch.tensor(8, device=device).expand(3)]
    assert torch.equal(joined(other), torch.cat(other))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_what_is_moved_piece_by_piece_is_what_was_there(dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    pinned: list[int] = []
    real = torch.Tensor.pin_memory if device == "cuda" else torch.Tensor.clone  # only a GPU has such memory

    def pin(self: torch.Tensor) -> torch.Tensor:
        pinned.append(self.nbytes)
        return real(self)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(data_module, "PIECE", 1000)
    batch = {"x": torch.randn(101, 3, 5), "more": (torch.arange(101), [torch.tensor(2.0), torch.empty(0, 4)], "text")}
    found, expected = (move(batch, torch.device(device), dtype) for move in (preloaded, to_device))
    assert torch.equal(found["x"], expected["x"]) and found["x"].dtype == expected["x"].dtype == (dtype or torch.float32)
    assert torch.equal(found["more"][0], batch["more"][0].to(device)) and found["more"][2] == "text"
    assert [one.shape for one in found["more"][1]] == [(), (0, 4)]
    assert len(pinned) == 8 and max(pinned) <= 1000
