from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import SettingsError
from explorer.core.recipe import Recipe
from explorer.recover.run import Run
from explorer.recover.schedules.rigl import RigL, moved_mask
from tests.recover.schedules.nets import training, zeros

SEEN: list[Any] = []


@dataclass(frozen=True)
class Watched(RigL):
    """Looks at mask, weight and gradient around a move."""

    def gradients(self, run: Run) -> None:
        grad = run.weights["fc.0.weight"].grad
        assert grad is not None
        run.scratch["seen"] = grad.abs().clone()
        super().gradients(run)

    def after_step(self, run: Run) -> None:
        before = run.masks["fc.0.weight"], run.weights["fc.0.weight"].detach().clone()
        super().after_step(run)
        SEEN.append(
            (
                run.step,
                *before,
                run.scratch["seen"],
                run.masks["fc.0.weight"],
                run.weights["fc.0.weight"].detach().clone(),
            )
        )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_smallest_go_and_the_largest_gradients_grow_from_zero(optimizer: str, device: str) -> None:
    SEEN.clear()
    schedule = Watched(alpha=0.5, every=3, until=0.75)
    work = training(schedule, Recipe().prune("*", sparsity=0.6), device=device, optimizer=optimizer)
    for _ in work.events():
        pass
    moves = 0
    for step, mask, weight, gradient, after, value in SEEN:
        assert zeros(after) == zeros(mask) == round(0.6 * 48)
        if step % 3 or step > 18:
            assert torch.equal(mask, after)
            continue
        k = round(0.25 * (1 + math.cos(math.pi * step / 18)) * int(mask.sum()))
        ranked = weight.abs().masked_fill(~mask, torch.inf).reshape(-1).argsort()
        stays = mask.clone().reshape(-1)
        stays[ranked[:k]] = False
        candidates = gradient.reshape(-1).masked_fill(stays, -1.0)
        expected = stays.clone()
        expected[candidates.argsort(descending=True)[:k]] = True
        assert torch.equal(expected.reshape(mask.shape), after)
        grown = after & ~stays.reshape(mask.shape)
        assert int(grown.sum()) == k and zeros(value[grown]) == k
        assert torch.equal(value[after & ~grown], weight[after & ~grown])
        moves += k
    assert moves > 10


@given(st.integers(2, 40), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5))
def test_a_move_keeps_the_number_of_weights(n: int, density: float, fraction: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, generator=generator) < density
    weight, gradient = torch.randn(n, generator=generator) * mask, torch.rand(n, generator=generator)
    after, grown = moved_mask(mask, weight, gradient, fraction)
    assert int(after.sum()) == int(mask.sum()) and bool((after | ~grown).all())


def test_masks_have_to_be_held(device: str) -> None:
    with pytest.raises(SettingsError, match="regrow=True"):
        next(training("rigl", Recipe().prune("*", sparsity=0.5), device=device, regrow=True).events())
    with pytest.raises(SettingsError, match="alpha=2"):
        RigL(alpha=2)
