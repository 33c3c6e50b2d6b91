from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from explorer.compress.masks import (
    above,
    block_sums,
    by_pattern,
    by_sparsity,
    by_threshold,
    count_nonzero,
    expand_blocks,
    masked,
    round_units,
    units_that_stay,
)
from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from tests.contract.nets import SAMPLES, few, tiny

SPARSITIES = (0.0, 0.001, 0.25, 0.5, 0.77, 0.995)


@pytest.mark.parametrize("shape", [(), (7,), (5, 3), (4, 3, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_masking_and_counting_are_torchs(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    if dtype == torch.float64 and device == "mps":
        pytest.skip("no float64 there")
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    if weight.ndim == 4:
        weight = weight.to(memory_format=torch.channels_last)
    threshold = float(weight.flatten()[0].abs())
    mask = above(weight.abs(), threshold)
    assert torch.equal(mask, weight.abs() > threshold) and mask.dtype == torch.bool
    found = masked(weight, mask)
    assert torch.equal(found, weight * mask) and found.dtype == dtype and found.stride() == weight.stride()
    assert count_nonzero(found) == int(torch.count_nonzero(weight * mask))
    assert count_nonzero(-found.new_zeros(3)) == 0  # a negative zero is one


def oracle(weight: Tensor, sparsity: float) -> Tensor:
    holder = nn.Module()
    holder.weight = nn.Parameter(weight.clone())
    prune.l1_unstructured(holder, "weight", amount=sparsity)
    return holder.weight_mask.bool()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_layer_of_every_sample_is_pruned_as_torch_does(name: str, device: str) -> None:
    subject = few(name, device=device)
    for sparsity in SPARSITIES:
        plan = resolve(subject, Recipe().prune("*", sparsity=sparsity))
        for layer in subject.layers:
            assert torch.equal(plan.masks[layer.name], oracle(subject.weight(layer.name), sparsity)), (
                layer.name,
                sparsity,
            )
            assert (~plan.masks[layer.name]).sum() == round(sparsity * layer.numel)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
def test_global_scope_is_torchs_global_unstructured(name: str, sparsity: float, device: str) -> None:
    subject = few(name, device=device)
    holders = []
    for layer in subject.layers:
        holder = nn.Module()
        holder.weight = nn.Parameter(subject.weight(layer.name).clone())
        holders.append((holder, "weight"))
    prune.global_unstructured(holders, pruning_method=prune.L1Unstructured, amount=sparsity)
    plan = resolve(subject, Recipe().prune("*", sparsity=sparsity, scope="global"))
    for layer, (holder, _) in zip(subject.layers, holders, strict=True):
        assert torch.equal(plan.masks[layer.name], holder.weight_mask.bool())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.floats(0, 1, exclude_max=True))
def test_ties_and_rounding_are_torchs(device: str, values: list[int], sparsity: float) -> None:
    """Few distinct magnitudes, existing zeros among them; k = round(s * n) with Python's round (half to even)."""
    weight = torch.tensor(values, dtype=torch.float32, device=device)
    k = round(sparsity * len(values))
    mask = by_sparsity([weight.abs()], [None], sparsity)[0]
    assert int((~mask).sum()) == k
    if k < len(values):  # torch's own check refuses to prune everything away
        assert torch.equal(mask, oracle(weight, sparsity))


@pytest.mark.parametrize(
    ("n", "sparsity", "k"), [(5, 0.5, 2), (3, 0.5, 2), (7, 0.5, 4), (10, 0.25, 2), (10, 0.35, 4), (1, 0.5, 0)]
)
def test_half_goes_to_even(n: int, sparsity: float, k: int, device: str) -> None:
    assert int((~by_sparsity([torch.rand(n).to(device)], [None], sparsity)[0]).sum()) == k == round(sparsity * n)


def test_a_threshold_prunes_what_is_at_or_below_it(device: str) -> None:
    scores = torch.tensor([0.0, 0.5, 0.5, 0.75], device=device)
    assert by_threshold(scores, None, 0.5).tolist() == [False, False, False, True]
    assert by_threshold(scores, None, 0.49).tolist() == [False, True, True, True]
    assert by_threshold(scores, None, 0.0).tolist() == [False, True, True, True]
    assert by_threshold(scores, None, -1.0).all()
    subject = tiny(device=device)
    weight = subject.weight("fc.0.weight").abs()
    at = float(weight.flatten()[7])
    mask = resolve(subject, Recipe().prune("fc.0", threshold=at)).masks["fc.0.weight"]
    assert torch.equal(mask, weight > at) and not mask.flatten()[7]
    assert not resolve(subject, Recipe().prune("fc.0", threshold=1e30)).masks["fc.0.weight"].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_threshold_between_two_values_of_half_precision_is_not_rounded_to_one(dtype: torch.dtype, device: str) -> None:
    scores = torch.linspace(0.09, 0.11, 400).to(dtype).unique().to(device)
    for threshold in torch.linspace(0.0901, 0.1099, 57).tolist():
        assert torch.equal(by_threshold(scores, None, threshold), scores.float() > threshold)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 5), (4, 8)])
@pytest.mark.parametrize("shape", [(3, 8), (2, 5), (2, 9, 3, 3), (4, 2), (1, 16, 1)])
def test_n_of_m_against_brute_force(n: int, m: int, shape: tuple[int, ...], device: str) -> None:
    torch.manual_seed(0)
    scores = torch.rand(shape).to(device)
    mask = by_pattern(scores, n, m)
    rest = [range(size) for d, size in enumerate(shape) if d != 1]
    for index in itertools.product(*rest):
        at = (index[0], slice(None), *index[1:])
        row, kept = scores[at], mask[at]
        for start in range(0, shape[1] - m + 1, m):
            run = row[start : start + m]
            best = set(run.argsort(descending=True)[:n].tolist())
            assert {i for i in range(m) if kept[start + i]} == best
        assert kept[shape[1] // m * m :].all()


def test_n_of_m_keeps_n_also_among_ties(device: str) -> None:
    for fill in (0.0, 1.0):
        assert (by_pattern(torch.full((3, 8), fill, device=device), 2, 4).view(3, 2, 4).sum(-1) == 2).all()


@pytest.mark.parametrize(("rows", "columns"), [(4, 1), (1, 4), (2, 3), (16, 16)])
@pytest.mark.parametrize("shape", [(8, 12), (5, 7), (3, 2, 3, 3)])
def test_blocks_against_brute_force(rows: int, columns: int, shape: tuple[int, ...], device: str) -> None:
    torch.manual_seed(0)
    scores = torch.rand(shape).to(device)
    matrix = scores.reshape(shape[0], -1)
    sums = block_sums(scores, rows, columns)
    down, across = -(-matrix.shape[0] // rows), -(-matrix.shape[1] // columns)
    assert sums.shape == (down, across)
    for i, j in itertools.product(range(down), range(across)):
        block = matrix[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        assert sums[i, j].item() == pytest.approx(block.sum().item(), rel=1e-5)
    chosen = torch.rand(down, across).to(device) > 0.5
    entries = expand_blocks(chosen, rows, columns, shape).reshape(matrix.shape)
    for i, j in itertools.product(range(matrix.shape[0]), range(matrix.shape[1])):
        assert entries[i, j] == chosen[i // rows, j // columns]


def test_blocks_are_cut_whole_and_counted_as_blocks(device: str) -> None:
    subject = tiny(device=device)
    mask = resolve(subject, Recipe().prune("fc.0", granularity="2x3", sparsity=0.5)).masks["fc.0.weight"]
    sums = subject.weight("fc.0.weight").abs().reshape(4, 2, 2, 3).sum((1, 3))
    gone = set(sums.flatten().argsort()[:4].tolist())
    assert {i for i in range(8) if not mask.reshape(4, 2, 2, 3).transpose(1, 2)[i // 2, i % 2].any()} == gone
    assert int(mask.sum()) == 24


def test_existing_zeros_count(device: str) -> None:
    weight = torch.zeros(10, device=device)
    weight[:3] = torch.tensor([1.0, 2.0, 3.0], device=device)
    mask = by_sparsity([weight], [None], 0.5)[0]
    assert int((~mask).sum()) == 5 and mask[:3].all()


def test_the_sparsity_is_of_what_is_alive(device: str) -> None:
    scores, alive = torch.arange(10.0, device=device), torch.tensor([True, False] * 5, device=device)
    mask = by_sparsity([scores], [alive], 0.4)[0]
    assert mask.tolist() == [False, False, False, False, True, False, True, False, True, False]
    two = by_sparsity([scores, scores], [alive, None], 0.5)
    assert int((~two[1]).sum()) + int((alive & ~two[0]).sum()) == round(0.5 * 15) and not two[0][~alive].any()


def brute_units(scores: list[list[float]], k: int) -> list[list[int]]:
    best = [max(range(len(s)), key=lambda i, s=s: (s[i], -i)) for s in scores]
    ranked = sorted((v, g, i) for g, s in enumerate(scores) for i, v in enumerate(s) if i != best[g])
    gone = {(g, i) for _, g, i in ranked[:k]}
    return [[i for i in range(len(s)) if (g, i) not in gone] for g, s in enumerate(scores)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 100), min_size=1, max_size=8, unique=True), min_size=1, max_size=4),
    st.floats(0, 0.999),
)
def test_units_that_stay(device: str, scores: list[list[float]], sparsity: float) -> None:
    flat = [v for s in scores for v in s]
    if len(set(torch.tensor(flat).tolist())) < len(flat):
        return  # ties: any choice is right
    tensors = [torch.tensor(s, device=device) for s in scores]
    stays = units_that_stay(tensors, sparsity, None)
    k = min(round(sparsity * len(flat)), len(flat) - len(scores))
    assert [s.tolist() for s in stays] == brute_units(scores, k)
    assert all(len(s) >= 1 and s.tolist() == sorted(s.tolist()) for s in stays)


def test_one_unit_stays_however_high_the_threshold(device: str) -> None:
    stays = units_that_stay([torch.tensor([1.0, 5.0, 2.0], device=device), torch.zeros(4, device=device)], None, 1e9)
    assert [s.tolist() for s in stays] == [[1], [0]]
    assert [s.tolist() for s in units_that_stay([torch.tensor([1.0, 5.0, 2.0], device=device)], None, 2.0)] == [[1]]


@pytest.mark.parametrize(
    ("stay", "multiple", "at_least", "expected"),
    [(13, 8, 1, 16), (11, 8, 1, 8), (3, 8, 1, 8), (20, 16, 1, 16), (5, 1, 7, 7), (9, 8, 9, 16), (19, 8, 1, 16), (2, 32, 1, 20)],
)
def test_the_number_of_units_is_rounded_to_what_hardware_likes(stay: int, multiple: int, at_least: int, expected: int, device: str) -> None:
    scores = torch.arange(20.0, device=device).flip(0)
    kept = round_units(scores, torch.arange(stay), multiple, at_least)
    assert kept.tolist() == list(range(expected))  # the best ones, in order
