"""In half precision, too, a replay gives to the last bit what a full evaluation in the same batches gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from explorer.core.recipe import Recipe
from tests.contract.nets import few
from tests.evaluate.test_replay import TUNED, engines, the_same

HALF = replace(TUNED, dtype=torch.bfloat16)


@pytest.mark.parametrize("name", ["fashion-mlp", "fashion-lenet5", "fashion-resnet", "fashion-vit", "moby-lstm", "bikes-mlp"])
def test_every_layer_of_samples_that_run_in_it(name: str, device: str) -> None:
    subject = few(name, device=device)
    pair = engines(subject, device, HALF)
    assert pair[0].runner.tier == "graph" and pair[0].precision == "bf16"
    for layer in subject.layers:
        the_same(pair, Recipe().prune(layer.name, sparsity=0.5))
    the_same(pair, Recipe().prune("*", sparsity=0.3).prune(subject.layers[-1].name, sparsity=0.6).quantize(subject.layers[0].name, bits=4))
    the_same(pair, Recipe().prune(subject.groups[0].producers[0], sparsity=0.25, granularity="unit"))
