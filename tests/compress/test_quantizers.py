from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from explorer.compress.apply import compress, effective_weights
from explorer.compress.quantizers import registry
from explorer.compress.resolve import resolve
from explorer.compress.slices import Slices
from explorer.core.errors import RecipeError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate
from explorer.models.subject import Subject
from explorer.models.task import Task
from tests.contract.nets import SAMPLES, few, same, tiny

BITS, SCHEMES = range(2, 9), ("symmetric", "affine")


def slices(weight: Tensor, axis: int | None) -> Slices:
    return Slices() if axis is None else Slices(tuple(weight.shape), axis)


def formula(weight: Tensor, bits: int, scheme: str, axis: int | None) -> tuple[Tensor, Tensor, int, int]:
    """Scale, zero point and code range, from the definition, in plain loops over slices, on the CPU."""
    slices = [weight] if axis is None else weight.unbind(axis)
    scales, zeros = [], []
    low, high = (0, 2**bits - 1) if scheme == "affine" else (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1)
    for one in slices:
        least, most = one.min().clamp(max=0), one.max().clamp(min=0)
        scale = one.abs().max() / high if scheme == "symmetric" else (most - least) / high
        scale = scale if scale > 0 else torch.tensor(1.0)
        scales.append(scale)
        zeros.append(torch.zeros(()) if scheme == "symmetric" else torch.round(-least / scale).clamp(0, high))
    scale, zero = torch.stack(scales), torch.stack(zeros).int()
    return (scale[0], zero[0], low, high) if axis is None else (scale, zero, low, high)


def reference(weight: Tensor, bits: int, scheme: str, axis: int | None) -> Tensor:
    weight = weight.cpu()
    scale, zero, low, high = formula(weight, bits, scheme, axis)
    if axis is None:
        return torch.fake_quantize_per_tensor_affine(weight, scale, zero, low, high)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, low, high)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_layer_of_every_sample_is_quantized_as_torch_does(name: str, device: str) -> None:
    subject = few(name, device=device)
    for bits, scheme, granularity in itertools.product((2, 3, 5, 8), SCHEMES, ("tensor", "channel")):
        recipe = Recipe().quantize("*", bits=bits, scheme=scheme, granularity=granularity)
        weights = effective_weights(subject, resolve(subject, recipe))
        for layer in subject.layers:
            expected = reference(subject.weight(layer.name), bits, scheme, 0 if granularity == "channel" else None)
            assert same(weights[layer.name], expected), (layer.name, bits, scheme, granularity)


class Up(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up1, self.up2, self.up3 = (
            nn.ConvTranspose1d(3, 7, 2),
            nn.ConvTranspose2d(7, 2, 3),
            nn.ConvTranspose3d(2, 5, 1),
        )
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up2(self.up1(x).unsqueeze(-1))
        return self.head(self.up3(x.unsqueeze(-1)).mean((2, 3, 4)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_channels_of_transposed_convolutions_are_axis_1(scheme: str, device: str) -> None:
    subject = tiny(Up(), (3, 4), device=device)
    plan = resolve(subject, Recipe().quantize("*", bits=3, scheme=scheme, granularity="channel"))
    weights = effective_weights(subject, plan)
    for layer in subject.layers:
        axis = 1 if layer.kind == "conv_transpose" else 0
        assert plan.codes[layer.name].scale.shape == (layer.shape[axis],)
        assert same(weights[layer.name], reference(subject.weight(layer.name), 3, scheme, axis))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=24),
    st.integers(2, 8),
    st.sampled_from(SCHEMES),
    st.booleans(),
)
def test_any_tensor_is_quantized_as_torch_does(
    device: str, values: list[float], bits: int, scheme: str, channel: bool
) -> None:
    weight = torch.tensor(values, device=device).view(1, -1).repeat(2, 1)
    weight[1] = -weight[1] * 0.37
    axis = 0 if channel else None
    codes = registry["minmax"]().fit(weight, bits, scheme, slices(weight, axis))
    found = codes.fake_quantize(weight)
    assert torch.isfinite(found).all() and bool((found[weight == 0] == 0).all())
    peak = weight.abs().max()
    if peak == 0 or peak > 1e-30:  # a range whose step underflows is rounded to zero; torch divides by it
        if not channel or all(row.abs().max() == 0 or row.abs().max() > 1e-30 for row in weight):
            assert same(found, reference(weight, bits, scheme, axis))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("bits", BITS)
def test_zeros_and_constants(scheme: str, axis: int | None, bits: int, device: str) -> None:
    fit, zeros = registry["minmax"]().fit, torch.zeros(3, 4, device=device)
    own = slices(zeros, axis)
    assert torch.equal(fit(zeros, bits, scheme, own).fake_quantize(zeros), zeros)
    assert (fit(zeros, bits, scheme, own).scale == 1).all()
    for value in (0.3, -0.3, 1e-20, 1e20):
        weight = torch.full((3, 4), value, device=device)
        found = fit(weight, bits, scheme, own).fake_quantize(weight)
        assert torch.allclose(found, weight, rtol=1e-5, atol=0), (value, found)
    mixed = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]], device=device)
    codes = fit(mixed, bits, scheme, slices(mixed, 0))
    assert codes.scale[0] == codes.scale[2] == 1 and torch.equal(codes.fake_quantize(mixed)[[0, 2]], zeros[:2])
    tiniest = torch.full((2, 2), 1e-45, device=device)
    assert torch.isfinite(fit(tiniest, bits, scheme, slices(tiniest, axis)).fake_quantize(tiniest)).all()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_ranges_are_taken_from_the_pruned_weights(scheme: str, granularity: str, device: str) -> None:
    """A criterion that prunes the largest weights shows it: the scale must come from what is left."""
    subject = tiny(device=device)
    with torch.no_grad():
        subject.module.fc[1].weight[0, 0] = 100.0
    recipe = (
        Recipe()
        .prune("fc.1", sparsity=0.9, criterion="random")
        .quantize("fc.1", bits=4, scheme=scheme, granularity=granularity)
    )
    plan = resolve(subject, recipe)
    mask = plan.masks["fc.1.weight"]
    assert not mask[0, 0], "choose another seed: the large weight has to be pruned"
    pruned = subject.weight("fc.1.weight") * mask
    found = effective_weights(subject, plan)["fc.1.weight"]
    assert same(found, reference(pruned, 4, scheme, 0 if granularity == "channel" else None))
    assert (found[~mask] == 0).all() and plan.codes["fc.1.weight"].scale.max() <= 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_soft_weights_are_quantized_after_they_were_attenuated(scheme: str, device: str) -> None:
    subject = tiny(device=device)
    weight = subject.weight("fc.0.weight")
    recipe = Recipe().prune("fc.0", sparsity=0.5, mode="scale", factor=0.25).quantize("fc.0", bits=4, scheme=scheme)
    attenuated = torch.where(oracle_mask(weight, 0.5), weight, weight * 0.25)
    assert same(
        effective_weights(subject, resolve(subject, recipe))["fc.0.weight"], reference(attenuated, 4, scheme, None)
    )
    t = float(weight.abs().median())
    recipe = Recipe().prune("fc.0", threshold=t, mode="shrink").quantize("fc.0", bits=4, scheme=scheme)
    assert same(
        effective_weights(subject, resolve(subject, recipe))["fc.0.weight"],
        reference(F.softshrink(weight, t), 4, scheme, None),
    )


def oracle_mask(weight: Tensor, sparsity: float) -> Tensor:
    order = weight.abs().flatten().argsort(stable=True)
    mask = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[order[: round(sparsity * weight.numel())]] = False
    return mask.view_as(weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_weights_keep_their_dtype(dtype: torch.dtype, granularity: str, device: str) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    x, y = tiny(device=device).task.batch("validation", range(64))
    data = TensorDataset(x.to(dtype), y)
    subject = Subject(tiny(device=device).module.to(dtype), Task.classification(validation=data))
    recipe = (
        Recipe().prune("fc.0", sparsity=0.5, mode="scale", factor=0.5).quantize("*", bits=4, granularity=granularity)
        .prune("fc.1", sparsity=0.5, granularity="unit", mode="scale", factor=0.5).prune("fc.2", sparsity=0.5)
    )  # fmt: skip
    plan = resolve(subject, recipe)
    assert plan.digest
    for name, weight in effective_weights(subject, plan).items():
        assert weight.dtype == dtype, name
        values = {round(v, 6) for v in weight[0].cpu().double().unique().tolist()}
        assert len(values) <= 16
    report = evaluate(subject, recipe, device=device)
    assert 0 < report.sparsity < 1 and report.metrics["loss"] > 0
    compressed = compress(subject, recipe)
    assert {p.dtype for p in compressed.parameters()} == {dtype}


def test_unknown_quantizer_with_near_match(device: str) -> None:
    with pytest.raises(RecipeError, match="unknown quantizer 'minmx'; did you mean minmax"):
        resolve(tiny(device=device), Recipe().quantize("fc.0", bits=4, quantizer="minmx"))


def test_levels_are_what_the_weights_become(device: str) -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 50).to(device)
    for bits, scheme, axis in itertools.product((2, 4), SCHEMES, (None, 0)):
        codes = registry["minmax"]().fit(weight, bits, scheme, slices(weight, axis))
        found = codes.fake_quantize(weight)
        for row in range(4):
            levels = torch.tensor(codes.levels(row if axis == 0 else 0), device=device)
            assert len(levels) == (2**bits if scheme == "affine" else 2**bits - 1) and (levels == 0).any()
            nearest = (found[row][:, None] - levels).abs().min(1).values
            assert nearest.max() < 1e-6 and (levels.diff() > 0).all()
