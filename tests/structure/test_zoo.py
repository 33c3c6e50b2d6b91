"""Groups of every architecture of the zoo, and that taking their units out is exact."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from explorer.compress.apply import compress, verify
from explorer.compress.plan import Plan
from explorer.compress.resolve import resolve
from explorer.core.errors import UnsupportedError
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import counts, remaining_shape
from explorer.evaluate.macs import count
from explorer.models.groups import follow
from explorer.models.subject import Subject
from explorer.models.trial import difference
from tests.contract.nets import state, unchanged
from tests.structure.zoo import CASES, RECURRENT, UNTRACEABLE, Case

CHOSEN = [
    case for case in RECURRENT if "2 layers" in case.name and ("no bias" in case.name) != ("time first" in case.name)
]
REST = [case for case in RECURRENT if case not in CHOSEN]


def recipes(subject: Subject) -> Iterator[Recipe]:
    """Uneven shares at once, half of all, almost all; then each group by itself."""
    mixed = Recipe()
    for i, group in enumerate(subject.groups):
        mixed = mixed.prune(group.producers[0], sparsity=(0.2, 0.6, 0.4)[i % 3], granularity="unit")
    yield mixed
    for sparsity in (0.5, 0.99):
        yield Recipe().prune("*", sparsity=sparsity, granularity="unit")
    for group in subject.groups:
        yield Recipe().prune(group.producers[0], sparsity=0.5, granularity="unit")


NOTHING = Plan({}, {}, {}, frozenset())


def check(subject: Subject, plan: Plan, macs: bool = True) -> None:
    """masked == removed; outputs are others than before; parameters and MACs fell as counted."""
    module = compress(subject, plan)
    inputs = subject.example(4)
    with torch.no_grad():
        assert verify(subject, plan, module, 7) <= 1e-5
    size = sum(p.numel() for p in subject.module.parameters())
    left = sum(
        int(torch.Size(remaining_shape(tuple(p.shape), plan.dropped.get(n, {}))).numel())
        for n, p in subject.module.named_parameters()
    )
    assert sum(p.numel() for p in module.parameters()) == left < size
    if macs:
        with torch.no_grad():
            assert difference(subject.task.forward(subject.copy(), inputs), subject.task.forward(module, inputs)) > 1e-7
        before, after = counts(subject, NOTHING), counts(subject, plan)
        assert after.parameters == left and after.macs and before.macs and after.macs < before.macs
        assert count(Subject(module, subject.task, "smaller"), {}).total == after.macs


def exact(case: Case, device: str, most: int = 100) -> None:
    subject = case.subject(device)
    before, digest = state(subject.module), subject.digest
    if case.groups is not None:
        assert {group.name: (group.kind, group.units) for group in subject.groups} == case.groups
    for layer, why in case.refused.items():
        assert why in subject.structure.refused[layer]
        with pytest.raises(UnsupportedError, match=layer):
            resolve(subject, Recipe().prune(layer, sparsity=0.5, granularity="unit"))
    for layer in subject.layers:
        assert (layer.group is None) == (layer.name in subject.structure.refused)
    seen = set()
    for recipe in islice(recipes(subject), most):
        if not subject.groups:
            break
        plan = resolve(subject, recipe)
        if plan.kept and plan.digest not in seen:
            check(subject, plan, macs=not seen)
            seen.add(plan.digest)
            for group in subject.groups:
                kept = len(plan.kept.get(group.name, range(group.units)))
                assert 1 <= kept <= group.units
    assert bool(seen) == bool(subject.groups)
    assert unchanged(subject.module, before) and subject.digest == digest


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_removing_equals_masking(case: Case, device: str) -> None:
    exact(case, device)


@pytest.mark.parametrize("case", UNTRACEABLE, ids=lambda case: case.name)
def test_what_cannot_be_traced_has_the_groups_that_are_certain(case: Case, device: str) -> None:
    with pytest.raises(Exception, match=r".+"):
        follow(case.subject(device))
    exact(case, device)


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)
def test_recurrent_layers_of_every_setting(case: Case, device: str) -> None:
    exact(case, device, most=2)


@pytest.mark.slow
@pytest.mark.parametrize("case", REST, ids=lambda case: case.name)
def test_recurrent_layers_of_every_depth(case: Case, device: str) -> None:
    exact(case, device)


def test_heads_are_the_attentions_heads(device: str) -> None:
    found = {}
    for case in CASES:
        for group in case.subject(device).groups:
            if group.kind == "head":
                found.setdefault(case.name, set()).add((group.name, group.units))
    assert found == {
        **{name: {("attn", 3)} for name in (
            "fused qkv, reshape and unbind", "fused qkv, chunk", "separate q, k, v with matmul",
            "separate q, k, v with a mask", "grouped queries",
        )},
        "nn.TransformerEncoderLayer": {("encoder.self_attn", 3)},
        "einsum": {("q", 3)},
        "nn.TransformerDecoder": {
            (f"decoder.layers.{i}.{name}", 2) for i in (0, 1) for name in ("self_attn", "multihead_attn")
        },
        "nn.Transformer": {
            ("both.encoder.layers.0.self_attn", 2),
            ("both.decoder.layers.0.self_attn", 2),
            ("both.decoder.layers.0.multihead_attn", 2),
        },
        "decoder with cross attention": {("attn", 3), ("cross", 3)},
        "equal heads in all layers": {("layers.0", 3)},
    }  # fmt: skip


def test_layers_that_share_a_number_of_heads_lose_equally_many(device: str) -> None:
    subject = next(case for case in CASES if case.name == "equal heads in all layers").subject(device)
    group = next(group for group in subject.groups if group.kind == "head")
    assert group.producers == tuple(f"layers.{i}.{name}.weight" for i in (0, 1) for name in "qkv")
    small = compress(subject, Recipe().prune("layers.1.q", sparsity=0.34, granularity="unit"))
    assert small.num_heads == 2 and {len(layer["q"].weight) for layer in small.layers} == {8}
    assert subject.module.num_heads == 3


def test_tied_weights_stay_tied_and_their_layers_know_their_size(device: str) -> None:
    subject = next(case for case in CASES if case.name == "tied-embedding language model").subject(device)
    small = compress(subject, Recipe().prune("embedding", sparsity=0.5, granularity="unit"))
    assert small.head.weight is small.embedding.weight and small.head.weight.shape == (11, 3)
    assert small.embedding.embedding_dim == small.head.in_features == 3
