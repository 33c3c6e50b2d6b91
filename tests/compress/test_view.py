"""Tensors as pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import explorer
from explorer.compress.view import levels, smaller_matrix, sqnr, weight_matrix
from tests.contract.nets import sample


def test_the_picture_before_shows_what_goes_and_the_picture_after_what_is_left(device: str) -> None:
    subject = sample("vowels-lstm", device)
    plan = explorer.resolve(subject, explorer.Recipe().prune("lstm.weight_hh_l0", granularity="unit", sparsity=0.5))
    before, cut, step = weight_matrix(subject, plan, "lstm.weight_hh_l0")
    after, zero, _ = smaller_matrix(subject, plan, "lstm.weight_hh_l0")
    assert before.shape == (256, 64) and step == 1 and after.shape == (128, 32)
    assert float(cut.mean()) == pytest.approx(0.75) and not zero.any()
    module = explorer.compress(subject, plan)
    assert np.array_equal(after, module.lstm.weight_hh_l0.detach().cpu().numpy())


def test_large_tensors_are_thinned(device: str) -> None:
    subject = sample("fashion-mlp", device)
    values, _, step = weight_matrix(subject, explorer.resolve(subject, explorer.Recipe()), "fc1.weight")
    assert step == 4 and values.shape == (75, 196)


def test_levels_are_those_of_the_widest_channel_and_the_error_is_signal_over_noise(device: str) -> None:
    subject = sample("fashion-mlp", device)
    plan = explorer.resolve(subject, explorer.Recipe().quantize("fc3.weight", bits=3, granularity="channel"))
    weight = subject.weight("fc3.weight")
    shown = levels(subject, plan, "fc3.weight")
    assert shown is not None and len(shown) == 7 and max(shown) == pytest.approx(float(weight.abs().max()), rel=1e-6)
    weight, rounded = weight.cpu(), plan.layers["fc3.weight"].apply(weight).cpu()
    expected = 10 * torch.log10(weight.double().square().sum() / (weight - rounded).double().square().sum())
    assert sqnr(subject, plan, "fc3.weight") == pytest.approx(float(expected))
    assert levels(subject, plan, "fc1.weight") is None and sqnr(subject, plan, "fc1.weight") is None
