from __future__ import annotations

import pytest
import torch
from torch import nn

import explorer
from explorer.core.errors import VerificationError
from explorer.core.recipe import Recipe
from explorer.recover.finetune import finetune
from tests.contract.nets import sample
from tests.recover.small import same_weights, small


def test_a_derived_subject_was_checked(device: str) -> None:
    subject = small(device)
    recipe = Recipe().prune("rnn", sparsity=0.5).prune("conv", granularity="unit", sparsity=0.25)
    module = explorer.compress(subject, recipe)
    with torch.no_grad():
        module.head.weight += 0.1
    made = subject.derive(module, recipe=recipe, epochs=2)
    assert made.parent is subject and made.history[-1].what == "taken back" and made.history[-1].epochs == 2
    assert same_weights(made.module, module) and made.module is not module
    with torch.no_grad():
        module.rnn.weight_hh_l0 += 0.1
    with pytest.raises(
        VerificationError, match=r"rnn\.weight_hh_l0: \d+ weights that the recipe prunes are not zero.*explorer\.hold"
    ):
        subject.derive(module, recipe=recipe)
    with pytest.raises(VerificationError, match=r"conv\.weight: shape \(6, 2, 3\); accepted: \(8, 2, 3\)"):
        subject.derive(module, recipe=Recipe().prune("rnn", sparsity=0.5))
    with pytest.raises(VerificationError, match="no such tensor"):
        subject.derive(nn.Linear(2, 2))


def test_the_history_is_joined_over_generations(device: str) -> None:
    subject = sample("vowels-rnn", device)
    first = finetune(subject, Recipe().prune("*", sparsity=0.3), epochs=0, device=device)
    second = finetune(first, Recipe().prune("*", sparsity=0.5), epochs=1, batch=64, device=device)
    assert second.parent is first and [entry.parent for entry in second.history] == [
        "vowels-rnn",
        "vowels-rnn-finetuned",
    ]
    assert second.name == "vowels-rnn-finetuned"
    assert explorer.evaluate(second).sparsity == pytest.approx(0.5, abs=0.01)
