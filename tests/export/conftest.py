"""Samples judged on few samples, and what was exported of them once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from torch.utils.data import Subset

import explorer
from explorer.export.bundle import Bundle
from explorer.models.subject import Subject
from explorer.models.task import Task

RECIPES = ("original", "global", "bits", "units", "all")


@cache
def few(name: str, n: int = 24) -> Subject:
    """A sample model judged on the first n samples of each split."""
    whole = explorer.load(name)
    splits = {key: Subset(data, range(min(n, len(data)))) for key, data in whole.task.splits.items()}
    make = {"classification": Task.classification, "regression": Task.regression, "language_model": Task.language_model}
    return Subject(whole.module, make[whole.task.kind](**splits), name, card=whole.card)


def recipe_for(subject: Subject, kind: str) -> explorer.Recipe:
    """One of RECIPES; "units" and "all" cut units where the model has groups."""
    recipe = explorer.Recipe(name=kind)
    if kind in ("units", "all") and subject.groups:
        recipe = recipe.prune([g.producers[0] for g in subject.groups], sparsity=0.5, granularity="unit")
    if kind in ("global", "all"):
        recipe = recipe.prune("*", sparsity=0.5, scope="global")
    return recipe.quantize("*", bits=4, granularity="channel") if kind in ("bits", "all") else recipe


@pytest.fixture(scope="session")
def subject_of() -> Callable[[str], Subject]:
    return few


@pytest.fixture(scope="session")
def recipe_of() -> Callable[[Subject, str], explorer.Recipe]:
    return recipe_for


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """exported(sample, kind): its bundle, made once a session, in a path with a space and Chinese characters."""
    root = tmp_path_factory.mktemp("导出 of samples")

    @cache
    def make(name: str, kind: str) -> Bundle:
        subject = few(name)
        return explorer.export(subject, recipe_for(subject, kind), root / f"{name} {kind} 模型")

    return lambda name, kind="all": make(name, kind)
