"""Every sample, compressed, saved in every format and brought back: the same figures."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model

import explorer
from explorer.evaluate.costs import counts
from tests.contract.nets import SAMPLES, few

QUICK = {("fashion-lenet5", "units"), ("vowels-rnn", "weights")}
RECIPE = explorer.Recipe().prune("*", sparsity=0.5).quantize("*", bits=8)
UNITS = explorer.Recipe().prune("*", granularity="unit", sparsity=0.5)
RECIPES = {"weights": RECIPE, "units": UNITS}
EVERY = [(n, r) for n in SAMPLES for r in RECIPES]


@pytest.mark.parametrize(
    ("name", "what"), [one if one in QUICK else pytest.param(*one, marks=pytest.mark.slow) for one in EVERY]
)
def test_files_that_hold_a_forward_pass(name: str, what: str, tmp_path: Path, device: str) -> None:
    subject, recipe = few(name, 32, device), RECIPES[what]
    bundle = explorer.export(subject, recipe, tmp_path / "out", formats=["safetensors", "packed", "pt2"], device=device)
    only = explorer.export(subject, recipe, tmp_path / "only", formats=["packed"], device=device)
    expected = explorer.evaluate(subject, recipe, device=device)
    files = [bundle.folder / file for file in ("model.safetensors", "model.packed", "model.pt2")]
    with zipfile.ZipFile(tmp_path / "by-hand.zip", "w") as archive:  # as somebody else zips it, without a folder
        archive.write(files[0], files[0].name)
    forms = set()
    for path in (bundle.folder, bundle.zip_path, *files, only.folder, only.zip_path, tmp_path / "by-hand.zip"):
        again = explorer.load(path, subject.task)
        assert again.card["forward"] and {layer.name for layer in again.layers} == {
            layer.name for layer in subject.layers
        }
        again.module.to(device)
        found = explorer.evaluate(again, device=device)
        assert found.metrics == pytest.approx(expected.metrics, rel=1e-5, abs=1e-6), path.name
        assert found.parameters == expected.parameters
        zeros = sum(int((again.weight(layer.name) == 0).sum()) for layer in again.layers)
        alive = explorer.compress(subject, recipe)
        assert zeros == sum(int((alive.get_parameter(layer.name) == 0).sum()) for layer in subject.layers)
        forms.add(again.card["format"])
    assert forms == {"export", "torch.export"}


@pytest.mark.parametrize(
    "name", [n if n == "fashion-lenet5" else pytest.param(n, marks=pytest.mark.slow) for n in SAMPLES]
)
def test_state_dicts_hold_the_same_weights(name: str, tmp_path: Path, device: str) -> None:
    subject = few(name, 32, device)
    module = explorer.compress(subject, RECIPE).cpu()
    state = module.state_dict()
    save_model(module, str(tmp_path / "a.safetensors"))
    save_file({k: v.clone().contiguous() for k, v in state.items()}, tmp_path / "b.safetensors")
    torch.save(state, tmp_path / "c.pt")
    torch.save(state, tmp_path / "d.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}, "optimizer": {"state": {}}}, tmp_path / "e.bin")
    expected = explorer.evaluate(subject, RECIPE, device=device).metrics
    recipe = explorer.Recipe().prune("*", sparsity=0.7, scope="global").quantize("*", bits=4)
    plain = explorer.Subject(module, subject.task)
    wanted, masks = counts(plain, explorer.resolve(plain, recipe)), explorer.resolve(plain, recipe).masks
    for file in sorted(tmp_path.iterdir()):
        again = explorer.load(file)
        assert not again.card["forward"] and {layer.name for layer in again.layers} == {
            layer.name for layer in subject.layers
        }
        plan = explorer.resolve(again, recipe)  # what needs no forward pass says the same
        found = counts(again, plan)
        assert (found.bytes, found.parameters) == (wanted.bytes, wanted.parameters)
        assert sum(int(m.sum()) for m in plan.masks.values()) == sum(int(m.sum()) for m in masks.values())
        own = explorer.compress(subject, explorer.Recipe()).cpu()  # and the class, with these weights, answers the same
        own.load_state_dict(again.module.state_dict())
        assert explorer.evaluate(
            explorer.Subject(own.to(device), subject.task), device=device
        ).metrics == pytest.approx(expected, rel=1e-5, abs=1e-6)
