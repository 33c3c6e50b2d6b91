"""Depth pruning: which branches can go whole, and that taking them out equals leaving them out of the sum."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

import explorer
from explorer.analysis.importance import importance
from explorer.cli import app
from explorer.compress.apply import compress, effective_weights, verify
from explorer.compress.plan import Plan
from explorer.compress.resolve import resolve
from explorer.compress.view import smaller_matrix
from explorer.core.errors import RecipeError, UnsupportedError
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import counts
from explorer.evaluate.evaluator import evaluate
from explorer.evaluate.macs import count
from explorer.export.exporters import registry
from explorer.models.absent import Absent
from explorer.models.replica import Replica
from explorer.models.subject import Subject
from explorer.models.trial import difference
from tests.contract.nets import few, randomize, state, tiny, unchanged
from tests.structure.nets_depth import Nested, Refused, ResNet
from tests.structure.zoo_depth import DEPTH, Deep

ALL = {"threshold": 1e9, "granularity": "layer"}


def by_hand(module: nn.Module, silent: tuple[str, ...], x: Tensor) -> Tensor:
    """The module's answer in float64 with what the last modules of branches answer set to zero: independent of our engine."""
    exact = copy.deepcopy(module).cpu().double().eval()
    for name in silent:
        exact.get_submodule(name).register_forward_hook(
            lambda _, __, out: (torch.zeros_like(out[0]), out[1]) if isinstance(out, tuple) else torch.zeros_like(out)
        )
    with torch.no_grad():
        return exact(x.cpu().double())


def check(subject: Subject, plan: Plan, reference: Tensor | None = None) -> nn.Module:
    """masked == removed == reference in float64; parameters, MACs and sparsity as counted."""
    module = compress(subject, plan)
    x = subject.example(4).cpu().double()
    with torch.no_grad():
        removed = copy.deepcopy(module).cpu().double()(x)
        replica = Replica(subject.module, "cpu", torch.float64)
        with replica.weights(effective_weights(subject, plan), plan.norms) as masked:
            assert difference(masked(x), removed) <= 1e-12
        if reference is not None:
            assert difference(reference, removed) <= 1e-12
        assert difference(subject.copy().cpu().double()(x), removed) > 1e-6
    assert verify(subject, plan, module, 7) <= 1e-5
    before, after = counts(subject, Plan({}, {})), counts(subject, plan)
    assert sum(p.numel() for p in module.parameters()) == after.parameters < before.parameters
    assert sum(int(torch.count_nonzero(p)) for p in module.parameters()) == after.nonzero
    assert after.bytes < before.bytes and after.macs < before.macs and after.sparsity > 0
    assert count(Subject(module, subject.task, "smaller"), {}).total == after.macs
    return module


@pytest.mark.parametrize("case", DEPTH, ids=lambda case: case.name)
def test_taking_a_branch_out_equals_leaving_it_out_of_the_sum(case: Deep, device: str) -> None:
    subject = case.subject(device)
    before, digest = state(subject.module), subject.digest
    found = {name: " ".join(sorted(block.modules)) for name, block in subject.depth.blocks.items()}
    assert found == {name: " ".join(sorted(modules.split())) for name, modules in case.blocks}
    assert all(group.kind == "block" and group.units == 1 for group in subject.blocks)
    for block in subject.depth.blocks.values():  # each by itself
        plan = resolve(subject, Recipe().prune(block.group.producers[0], **ALL))
        inner = [name for name in plan.removed if name != block.group.name]
        if not inner or block.group.name in plan.removed:
            last = tuple(name for name in block.modules)
            check(subject, plan, by_hand(subject.module, last, subject.example(4)))
    plan = resolve(subject, Recipe().prune("*", **ALL))
    assert set(plan.removed) == set(found)
    module = check(subject, plan)
    assert not any(name in dict(module.named_parameters()) for group in subject.blocks for name in group.members)
    assert unchanged(subject.module, before) and subject.digest == digest


@pytest.mark.parametrize("case", DEPTH, ids=lambda case: case.name)
def test_what_remains_is_cut_quantized_and_rebuilt_without_its_source(case: Deep, tmp_path, device: str) -> None:
    subject = case.subject(device)
    gone = subject.blocks[0]
    recipe = Recipe().prune(gone.producers, **ALL).prune("*", sparsity=0.5, granularity="unit")
    plan = resolve(subject, recipe.prune("*", sparsity=0.3).quantize("*", bits=6))
    module = compress(subject, plan)
    after = counts(subject, plan)
    assert verify(subject, plan, module, 7) <= 1e-5 and gone.name in plan.removed
    assert sum(p.numel() for p in module.parameters()) == after.parameters
    assert not set(plan.codes) & set(gone.producers) and all(
        after.layers[name].remaining == 0 for name in gone.producers
    )
    exporter = registry["safetensors"]()
    assert not exporter.write(subject, plan, module, tmp_path).notes
    assert exporter.verify(subject, plan, module, tmp_path) <= exporter.tolerance


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet with a projection", "nn.TransformerEncoder, norm first", "residual recurrent layers"]
)
def test_what_remains_runs_in_onnx_runtime(name: str, tmp_path, device: str) -> None:
    subject = next(case for case in DEPTH if case.name == name).subject(device)
    plan = resolve(subject, Recipe().prune("*", sparsity=0.5, granularity="layer"))
    module, exporter = compress(subject, plan), registry["onnx"]()
    exporter.write(subject, plan, module, tmp_path)
    assert plan.removed and exporter.verify(subject, plan, module, tmp_path) <= exporter.tolerance


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("gate", "not the same"),
        ("shared", ""),
        ("tied", "tied to a layer outside"),
        ("read", ""),
        ("two", "no addition around it"),
    ],
)
def test_what_is_no_removable_branch_is_refused_with_the_reason(how: str, why: str, device: str) -> None:
    subject = tiny(randomize(Refused(how)), device=device)
    assert not subject.blocks and set(subject.depth.refused) == {layer.name for layer in subject.layers}
    layer = "b.weight" if how == "gate" else "a.weight"
    assert why in subject.depth.refused[layer]
    with pytest.raises(UnsupportedError, match=f"{layer}: the block around it"):
        resolve(subject, Recipe().prune(layer, sparsity=0.5, granularity="layer"))


def test_a_fraction_of_the_blocks_with_the_lowest_mean_goes_whatever_their_size(device: str) -> None:
    subject = next(case for case in DEPTH if case.name == "resnet with a projection").subject(device)
    names = [group.name for group in subject.blocks]
    for criterion, mean in (("l1", lambda w: w.abs().mean()), ("l2", lambda w: w.square().mean().sqrt())):
        scores = {
            group.name: float(mean(torch.cat([subject.weight(n).flatten() for n in group.producers])))
            for group in subject.blocks
        }
        found = importance(subject, criterion, granularity="layer")
        assert {name: pytest.approx(value) for name, value in scores.items()} == {
            name: float(v) for name, v in found.items()
        }
        ordered = sorted(names, key=scores.__getitem__)
        for sparsity, k in ((0.1, 0), (0.4, 1), (0.5, 2), (0.9, 3)):
            plan = resolve(
                subject, Recipe().prune("stages", sparsity=sparsity, granularity="layer", criterion=criterion)
            )
            assert set(plan.removed) == set(ordered[:k])
        limit = Recipe().prune("*", threshold=scores[ordered[0]] * 1.0001, granularity="layer", criterion=criterion)
        assert resolve(subject, limit).removed == (ordered[0],)


def test_rules_for_blocks_follow_the_last_match_and_leave_protected_layers(device: str) -> None:
    subject = next(case for case in DEPTH if case.name == "resnet with a projection").subject(device)
    both = Recipe().prune("*", **ALL).prune("stages.1", threshold=0.0, granularity="layer")
    assert resolve(subject, both).removed == ("stages.0", "stages.2")
    assert resolve(subject, both.keep("stages.2.conv2")).removed == ("stages.0",)
    assert resolve(subject, both.clear("stages.0", kind="prune")).removed == ("stages.2",)
    assert resolve(subject, both.clear("*")).removed == ()
    assert Recipe.from_json(both.to_json()) == both
    one, other = (resolve(subject, Recipe().prune(f"stages.{i}", **ALL)) for i in (1, 2))
    assert one.digest != other.digest and one.digest == resolve(subject, Recipe().prune("stages.1.conv2", **ALL)).digest
    for wrong in ({"mode": "scale", "factor": 0.5}, {"multiple": 2}):
        with pytest.raises(RecipeError, match=r"mode='scale'|multiple="):
            Recipe().prune("*", sparsity=0.5, granularity="layer", **wrong)


def test_a_layer_of_an_inner_block_means_that_one_alone(device: str) -> None:
    subject = tiny(randomize(Nested()), device=device)
    assert resolve(subject, Recipe().prune("c", **ALL)).removed == ("c",)
    assert resolve(subject, Recipe().prune("b", **ALL)).removed == ("a",)
    both = resolve(subject, Recipe().prune("*", **ALL))
    module = compress(subject, both)
    assert set(both.removed) == {"a", "c"} and isinstance(module.a, Absent) and isinstance(module.d, Absent)


@pytest.mark.parametrize("name", ["fashion-resnet", "fashion-vit"])
def test_half_the_blocks_of_a_sample_go(name: str, device: str) -> None:
    subject = few(name, device=device)
    recipe = Recipe().prune("*", sparsity=0.5, granularity="layer")
    plan = resolve(subject, recipe)
    assert len(plan.removed) == round(len(subject.blocks) / 2)
    module = check(subject, plan)
    report = evaluate(subject, recipe, split="validation", device=device)
    again = evaluate(Subject(module, subject.task, "again"), Recipe(), split="validation", device=device)
    assert report.metrics == pytest.approx(again.metrics, abs=1e-5) and report.parameters == again.parameters


def test_an_export_says_which_blocks_are_gone(tmp_path, device: str) -> None:
    subject = few("fashion-resnet", device=device)
    recipe = Recipe().prune("*", sparsity=0.3, granularity="layer")
    (gone,) = resolve(subject, recipe).removed
    bundle = explorer.export(subject, recipe, tmp_path / "out", "safetensors", device=device)
    assert f"passes them by: {gone}." in (bundle.folder / "README.md").read_text("utf-8")
    assert "masks.safetensors" not in bundle.files  # nothing of what stays is pruned
    assert not [name for name in load_file(bundle.folder / "model.safetensors") if name.startswith(f"{gone}.conv")]
    values, cut, _ = smaller_matrix(subject, resolve(subject, recipe), f"{gone}.conv1.weight")
    assert values.shape == cut.shape == (1, 1)


def test_the_command_line_lists_blocks(tmp_path) -> None:
    (tmp_path / "recipe.json").write_text(Recipe().prune("b3", **ALL).to_json(), encoding="utf-8")
    shown = CliRunner().invoke(app, ["inspect", "fashion-resnet", "--recipe", str(tmp_path / "recipe.json")]).stdout
    lines = [line for line in shown.partition("Blocks that can be removed")[2].splitlines() if "conv1.weight" in line]
    assert len(lines) == 3 and ["removed" in line for line in lines] == [False, False, True]


def test_the_removed_module_trains_and_agrees_with_the_masked_one(device: str) -> None:
    subject = tiny(randomize(ResNet()), (2, 9, 9), device=device)
    plan = resolve(subject, Recipe().prune("stages.1", **ALL))
    module = compress(subject, plan).train()
    masked = copy.deepcopy(subject.module).train()
    masked.stages[1].bn3.register_forward_hook(lambda _, __, out: out * 0)
    x = subject.example(8)
    assert difference(masked(x), module(x)) <= 1e-5
    module(x).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_a_model_that_cannot_be_traced_has_no_blocks_and_says_so(device: str) -> None:
    class Branching(Nested):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.sum() > -1e9 else x

    subject = tiny(randomize(Branching()), device=device)
    assert not subject.blocks and "cannot be traced" in subject.depth.refused["a.weight"]
