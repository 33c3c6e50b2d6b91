"""Samples judged on few samples, and what was exported of them once a session."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import nn

import explorer
import sample_models
from explorer.export.bundle import Bundle
from explorer.models.subject import Subject
from tests.contract.nets import few

RECIPES = ("original", "global", "bits", "units", "all")


def recipe_for(subject: Subject, kind: str) -> explorer.Recipe:
    """One of RECIPES; "units" and "all" cut units where the model has groups."""
    recipe = explorer.Recipe(name=kind)
    if kind in ("units", "all") and subject.groups:
        recipe = recipe.prune([g.producers[0] for g in subject.groups], sparsity=0.5, granularity="unit")
    if kind in ("global", "all"):
        recipe = recipe.prune("*", sparsity=0.5, scope="global")
    return recipe.quantize("*", bits=4, granularity="channel") if kind in ("bits", "all") else recipe


@pytest.fixture(scope="session")
def subject_of(device: str) -> Callable[[str], Subject]:
    """subject_of(sample): judged on the first 24 samples of each split."""
    return partial(few, n=24, device=device)


@pytest.fixture(scope="session")
def recipe_of() -> Callable[[Subject, str], explorer.Recipe]:
    return recipe_for


def weights_kept(subject: Subject) -> bool:
    """Whether the module still holds a sample's own weights, as parameters: torch.export swaps them while it traces."""
    stored = load_file(sample_models.weights_path(subject.name))
    kept = [w for child in subject.module.modules() if isinstance(child, nn.RNNBase) for w in child._flat_weights]
    same = all(torch.equal(tensor.cpu(), stored[key]) for key, tensor in subject.module.state_dict().items())
    return same and all(type(w) is nn.Parameter and not w.is_meta for w in kept)


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, device: str, subject_of: Callable[[str], Subject]
) -> Callable[..., Bundle]:
    """exported(sample, kind): its bundle, made once for all processes of the run, in a path with a space and Chinese characters.

    What an export may do to the module that it reads is looked at where it is made."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "导出 of samples" / device
    root.mkdir(parents=True, exist_ok=True)

    @cache
    def make(name: str, kind: str) -> Bundle:
        place = root / f"{name} {kind} 模型"
        known = root / f"{place.name}.pickle"
        subject = subject_of(name)
        recipe = recipe_for(subject, kind)
        with FileLock(f"{known}.lock"):
            if not known.exists():
                bundle = explorer.export(subject, recipe, place, device=device)
                known.write_bytes(pickle.dumps((replace(bundle, report=None), weights_kept(subject))))  # type: ignore[arg-type]
        bundle, intact = pickle.loads(known.read_bytes())
        assert intact, f"{name}: exporting it changed the model"
        return replace(bundle, report=explorer.evaluate(subject, recipe, split="test", device=device))

    return lambda name, kind="all": make(name, kind)
