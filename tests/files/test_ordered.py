"""Layers of files that keep their tensors by name stand in the order that a person expects."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import explorer
from explorer.files.ordered import in_order


@pytest.mark.parametrize(
    "names",
    [
        ["wpe.weight", "wte.weight", "h.0.attn.c_attn.weight", "h.2.mlp.c_fc.weight", "h.10.mlp.c_fc.weight", "ln_f.weight", "lm_head.weight"],
        ["model.embed_tokens.weight", "model.layers.2.mlp.up_proj.weight", "model.layers.10.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"],
        ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.output.dense.weight", "bert.encoder.layer.11.output.dense.weight", "bert.pooler.dense.weight", "classifier.weight"],
        ["bn1.weight", "conv1.weight", "layer1.0.conv1.weight", "layer2.0.conv1.weight", "layer10.0.fc.weight", "fc.bias", "fc.weight"],
        ["fc1.weight", "fc2.weight", "fc03.weight", "fc10.weight", "fc" + "9" * 5000 + ".weight"],
    ],
)  # fmt: skip
def test_numbers_as_numbers_embeddings_first_the_head_last(names: list[str]) -> None:
    mixed = random.Random(0).sample(names, len(names))
    assert list(in_order(dict.fromkeys(mixed))) == names


def test_layers_of_a_checkpoint_and_of_shards(tmp_path: Path) -> None:
    tensors = {f"blocks.{i}.weight": torch.randn(3, 2) for i in range(12)} | {"tok_embeddings.weight": torch.randn(4, 2)}
    wanted = ["tok_embeddings.weight", *(f"blocks.{i}.weight" for i in range(12))]
    save_file(tensors, tmp_path / "all.safetensors")
    assert [layer.name for layer in explorer.load(tmp_path / "all.safetensors").layers] == wanted
    places = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(tensors)}
    for shard in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == shard}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    assert [layer.name for layer in explorer.load(index).layers] == wanted
    torch.save(dict(reversed(tensors.items())), tmp_path / "own.pt")  # its order is its author's
    assert [layer.name for layer in explorer.load(tmp_path / "own.pt").layers] == [*reversed(tensors)]
