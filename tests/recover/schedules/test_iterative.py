from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from explorer.core.errors import SettingsError
from explorer.core.recipe import Recipe
from explorer.core.training import Epoch
from explorer.models.subject import Subject
from explorer.recover.loop import Training
from explorer.recover.run import Run
from explorer.recover.schedules.iterative import Iterative
from explorer.recover.settings import Settings
from tests.contract.nets import classification
from tests.recover.schedules.nets import training, zeros

SEEN: list[tuple[int, dict[str, torch.Tensor], dict[str, torch.Tensor]]] = []


@dataclass(frozen=True)
class Watched(Iterative):
    """Looks at the weights where a round begins."""

    def before_epoch(self, run: Run) -> None:
        before = run.memory["round"]
        super().before_epoch(run)
        if run.memory["round"] != before:
            SEEN.append((run.epoch, run.state(), run.masks))
            assert not run.optimizer.state


@pytest.mark.parametrize(("rewind", "epochs", "rounds"), [(0, 7, [3, 5]), (1, 6, [3, 4]), (None, 7, [3, 5])])
def test_survivors_go_back_to_their_early_values(
    rewind: int | None, epochs: int, rounds: list[int], device: str
) -> None:
    SEEN.clear()
    work = training(Watched(rounds=2, rewind=rewind), Recipe().prune("*", sparsity=0.75), device=device, epochs=epochs)
    early = work.run.state()
    for event in work.events():
        if isinstance(event, Epoch) and event.epoch == rewind:
            early = work.run.state()
    assert [epoch for epoch, *_ in SEEN] == rounds
    for number, (_, state, masks) in enumerate(SEEN, 1):
        for name, mask in masks.items():
            assert int((~mask).sum()) == round((1 - 0.25 ** (number / 2)) * mask.numel())
            assert zeros(state[name]) == int((~mask).sum())
            same = torch.equal(state[name][mask], early[name][mask])
            assert same if rewind is not None else not same
        if rewind is not None:
            assert all(torch.equal(state[name], early[name]) for name in early if name not in masks)
    first, second = SEEN[0][2], SEEN[1][2]
    assert all(bool((first[name] | ~second[name]).all()) for name in second)  # what is gone stays gone


def test_the_learning_rate_begins_anew_with_each_round(device: str) -> None:
    work = training(
        Iterative(rounds=1, rewind=1), Recipe().prune("*", sparsity=0.5), device=device, epochs=5, lr_schedule="linear"
    )
    rates: dict[int, list[float]] = {}
    for event in work.events():
        if hasattr(event, "loss") and hasattr(event, "steps"):
            rates.setdefault(event.epoch, []).append(event.lr / 0.05)
    # a first training of three epochs, and one of the two that follow the epoch to which it is rewound
    assert [round(rates[epoch][0], 6) for epoch in (1, 2, 3, 4, 5)] == [1.0, round(2 / 3, 6), round(1 / 3, 6)] + [
        round(2 / 3, 6),
        round(1 / 3, 6),
    ]


def test_a_ticket_may_begin_with_new_weights(device: str) -> None:
    recipe = Recipe().prune("*", sparsity=0.5)
    states = []
    for seed in (0, 0, 1):
        work = training(Iterative(fresh=True), recipe, device=device, epochs=3, seed=seed)
        events = work.events()
        next(events)
        states.append(work.run.state()["fc.0.weight"])
        events.close()  # type: ignore[attr-defined]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
    assert not torch.equal(states[0], work.run.subject.weight("fc.0.weight"))


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.ones(6, 6)), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x @ self.weight)


def test_what_it_cannot_do_is_said_before(device: str) -> None:
    recipe = Recipe().prune("*", sparsity=0.5)

    def begin(schedule: Any, **settings: Any) -> None:
        task = classification((6,))
        work = Training(
            Subject(Bare().to(device), task), recipe, Settings(batch=16, **settings), schedule=schedule, device=device
        )
        next(work.events())

    with pytest.raises(SettingsError, match="epochs=2; accepted for 2 rounds that rewind to epoch 0: from 3"):
        begin("iterative", epochs=2)
    with pytest.raises(SettingsError, match="weight has no reset_parameters"):
        begin(Iterative(fresh=True))
    with pytest.raises(SettingsError, match="regrow=True holds no masks"):
        begin("iterative", regrow=True)
