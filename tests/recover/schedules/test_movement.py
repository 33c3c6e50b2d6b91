from __future__ import annotations

from dataclasses import dataclass

import torch

from explorer.core.recipe import Recipe
from explorer.core.training import Step
from explorer.recover.run import Run
from explorer.recover.schedules.movement import Movement
from tests.recover.schedules.nets import training, zeros

SEEN: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []


@dataclass(frozen=True)
class Watched(Movement):
    """Keeps what scores are made of."""

    def gradients(self, run: Run) -> None:
        weight = run.weights["fc.0.weight"]
        assert weight.grad is not None
        behind = run.memory["behind"].get("fc.0.weight", weight.detach())
        whole = torch.where(weight.detach() == 0, behind, weight.detach())
        SEEN.append((weight.grad.clone(), whole.clone(), weight.detach().clone()))
        super().gradients(run)


def test_scores_are_the_sum_of_minus_gradient_times_weight(device: str) -> None:
    SEEN.clear()
    work = training(Watched(until=0.9, every=4), Recipe().prune("fc.0", sparsity=0.75), device=device, epochs=2)
    for event in work.events():
        if isinstance(event, Step) and not work.run.memory["settled"]:
            by_hand = -sum(grad * whole for grad, whole, _ in SEEN)
            assert torch.allclose(work.run.memory["scores"]["fc.0.weight"], by_hand, atol=1e-6)
            if event.step % 4 == 0:  # the lowest scores go, as many as the cubic says
                share = event.step / round(0.9 * 12)
                gone = round((0.75 - 0.75 * (1 - share) ** 3) * 48)
                mask = work.run.masks["fc.0.weight"]
                assert zeros(mask) == gone
                assert float(by_hand[~mask].max()) <= float(by_hand[mask].min())
    assert zeros(work.run.weights["fc.0.weight"]) == 36
    # a pruned weight has a gradient and a score of its own, and keeps the value that it had
    masked = SEEN[7][2] == 0
    assert masked.any() and bool((SEEN[7][0][masked] != 0).any())
    assert torch.equal(SEEN[6][1][masked], SEEN[7][1][masked])


def test_a_pruned_weight_whose_gradient_asks_for_it_returns_with_its_value(device: str) -> None:
    work = training(Movement(until=1.0, every=1), Recipe().prune("fc.0", sparsity=0.5), device=device)
    name = "fc.0.weight"
    events = work.events()
    while name not in work.run.masks:
        next(events)
    run = work.run
    mask = run.masks[name]
    at = tuple((~mask).nonzero()[0].tolist())
    value = float(run.memory["behind"][name][at])
    assert value != 0 and float(run.weights[name].detach()[at]) == 0
    run.memory["scores"][name][at] = 1e9
    work.schedule.after_step(run)
    assert bool(run.masks[name][at]) and float(run.weights[name].detach()[at]) == value
    assert zeros(run.masks[name]) == zeros(mask)  # and another one went
