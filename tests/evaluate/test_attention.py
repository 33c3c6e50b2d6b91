"""Attention of few tokens by compiled loops: the same values as torch's, where they apply, and where they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from explorer.evaluate import attention
from explorer.models.trial import difference
from tests.contract.nets import few
from tests.evaluate.test_replay import TUNED, engines, the_same

NEAR = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def some(samples: int, heads: int, tokens: int, channels: int, side: bool, device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries, keys and values. side: of all heads in one line, as a projection gives them."""
    g = torch.Generator().manual_seed(tokens)
    shape = (samples, tokens, heads, channels) if side else (samples, heads, tokens, channels)
    made = [2 * torch.randn(shape, generator=g) for _ in range(3)]
    return [(one.transpose(1, 2) if side else one).to(device, dtype) for one in made]


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the loops were taken, as the length of a list."""
    taken: list[int] = []
    ours = attention._compiled
    monkeypatch.setattr(attention, "_compiled", lambda *given: taken.append(1) or ours(*given))
    monkeypatch.setattr(torch, "get_num_threads", lambda: attention.THREADS)
    return taken


@given(
    samples=st.integers(1, 3), heads=st.integers(1, 3), shape=st.sampled_from([16, 32, 48, 64, 128]).flatmap(lambda c: st.tuples(st.integers(1, attention.WORK // c), st.just(c))),
    side=st.booleans(), dtype=st.sampled_from(list(NEAR)), factor=st.sampled_from([None, 0.1, 2.0]),
)  # fmt: skip
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_values_as_torchs(
    device: str, samples: int, heads: int, shape: tuple[int, int], side: bool, dtype: torch.dtype, factor: float | None
) -> None:
    given, scale = some(samples, heads, *shape, side, device, dtype), factor and factor * shape[1] ** -0.5
    with torch.no_grad():
        found = attention.attention(*given, scale=scale)
        exact = F.scaled_dot_product_attention(*(one.cpu().double() for one in given), scale=scale)
    assert found.dtype is dtype and found.shape == exact.shape and difference(exact, found.cpu().double()) <= NEAR[dtype]


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30, -1e4])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_no_number_stays_none(which: int, value: float, dtype: torch.dtype, device: str) -> None:
    given = some(2, 2, 5, 16, True, device, dtype)
    given[which][1, 1, 3, 4] = value
    query, key, values = (one.cpu().double() for one in given)
    expected = (query @ key.transpose(2, 3) / 4).softmax(3) @ values  # torch's own makes zeros of a query that is no number
    with torch.no_grad():
        found = attention._compiled(*given, 0.25) if device == "cpu" else expected
    assert torch.equal(expected.isnan(), found.isnan()) and torch.equal(expected.isinf(), found.isinf())
    assert torch.allclose(expected.nan_to_num(), found.double().nan_to_num(), rtol=5e-2 if dtype is torch.bfloat16 else 1e-5, atol=NEAR[dtype])


def test_views_of_one_tensor_and_of_a_larger_one(device: str, loops: list[int]) -> None:
    joined = torch.randn(3, 7, 3 * 2 * 16, device=device)
    parts = [one.unflatten(2, (2, 16)).transpose(1, 2) for one in joined.chunk(3, 2)]
    same = torch.randn(1, 1, 7, 16, device=device).expand(3, 2, 7, 16)
    with torch.no_grad():
        for given in (parts, [one[1:2, 1:] for one in parts], [parts[0][:, :, 2:], parts[1][:, :, :5], parts[2][:, :, 1:6]], [same, parts[1], same]):
            assert difference(F.scaled_dot_product_attention(*given), attention.attention(*given)) <= 1e-5
    assert len(loops) == 4 * (device == "cpu")


MORE: dict[str, tuple[tuple[int, int, int, int], dict[str, Any]]] = {
    "a mask": ((2, 2, 5, 16), {"attn_mask": torch.ones(5, 5).tril().bool()}),
    "what comes later": ((2, 2, 5, 16), {"is_causal": True}),
    "much work": ((1, 2, attention.WORK // 16 + 1, 16), {}),
    "channels in between": ((2, 2, 5, 24), {}),
    "no samples": ((0, 2, 5, 16), {}),
}


@pytest.mark.parametrize("way", MORE)
def test_the_rest_is_torchs(way: str, device: str, loops: list[int]) -> None:
    shape, more = MORE[way]
    given = some(*shape, True, device)
    more = {name: one.to(device) if isinstance(one, Tensor) else one for name, one in more.items()}
    with torch.no_grad():
        assert torch.equal(F.scaled_dot_product_attention(*given, **more), attention.attention(*given, **more))
    assert not loops


def test_many_threads_are_torchs(device: str, loops: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    given = some(2, 2, 5, 16, True, device)
    monkeypatch.setattr(torch, "get_num_threads", lambda: attention.THREADS + 1)
    with torch.no_grad():
        assert torch.equal(F.scaled_dot_product_attention(*given), attention.attention(*given))
    assert not loops


def test_other_shapes_types_and_gradients_are_torchs(device: str, loops: list[int]) -> None:
    query, key, value = some(2, 2, 5, 16, True, device)
    longer = torch.cat([key, key], 2)
    query.requires_grad_()
    attention.attention(query, key, value).sum().backward()
    assert query.grad is not None
    with torch.no_grad():
        for given in ((query, longer, longer), (query[0], key[0], value[0])):
            assert torch.equal(F.scaled_dot_product_attention(*given), attention.attention(*given))
        if device != "mps":
            assert attention.attention(query.double(), key.double(), value.double()).dtype is torch.float64
    assert not loops


def test_a_transformers_graph_takes_them_where_operations_are_joined(device: str, loops: list[int]) -> None:
    subject, recipe = few("fashion-vit", device=device), Recipe().prune("blocks.1.attn.k", sparsity=0.5)
    the_same(engines(subject, device, replace(TUNED, fused=False)), recipe)
    assert not loops
    pair = engines(subject, device, TUNED)
    the_same(pair, recipe)
    assert bool(loops) == (device == "cpu")
    with pair[0].work() as work:
        for sparsity in (0.5, 0.6):
            loops.clear()
            pair[0].ensure(resolve(subject, Recipe().prune("head", sparsity=sparsity)), "validation", 16, work)
    assert not loops  # what is in front of the last layer is kept
