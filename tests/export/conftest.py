"""Samples judged on few samples, and what was exported of them once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import pytest

import explorer
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


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, device: str, subject_of: Callable[[str], Subject]
) -> Callable[..., Bundle]:
    """exported(sample, kind): its bundle, made once a session, in a path with a space and Chinese characters."""
    root = tmp_path_factory.mktemp("导出 of samples")

    @cache
    def make(name: str, kind: str) -> Bundle:
        subject = subject_of(name)
        return explorer.export(subject, recipe_for(subject, kind), root / f"{name} {kind} 模型", device=device)

    return lambda name, kind="all": make(name, kind)
