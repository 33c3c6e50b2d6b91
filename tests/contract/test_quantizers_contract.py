from __future__ import annotations

import itertools
import re

import pytest
import torch

from explorer.compress.codes import Codes, Float, Table, Uniform
from explorer.compress.quantizers import quantizers, registry
from explorer.compress.resolve import resolve
from explorer.compress.slices import Slices
from explorer.core.errors import RecipeError
from explorer.core.recipe import Recipe
from tests.contract.nets import tiny

SHAPE = (6, 50)
SLICES = (Slices(), Slices(SHAPE, 0), Slices(SHAPE, 1), Slices(SHAPE, 0, 16), Slices(SHAPE, 0, None, 3))
CASES = [
    (name, bits, scheme, slices)
    for name in quantizers()
    for bits, scheme, slices in itertools.product(registry[name].bits, registry[name].schemes, SLICES)
    if (bits in (1, 2, 5, 16) or len(registry[name].bits) == 1) and slices.granularity in registry[name].granularities
]
ids = [f"{name}-{bits}-{scheme}-{slices.granularity}{slices.axis}" for name, bits, scheme, slices in CASES]


def sample(device: str = "cpu") -> torch.Tensor:
    """Weights with pruned entries, a pruned channel, and channels of different reach."""
    weight = (
        torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 1, 1, 2, 0.01, 30])[:, None]
        + 0.03
    )
    weight[torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < 0.4] = 0
    weight[2] = 0
    return weight.to(device)


def parameters(codes: Codes) -> list[torch.Tensor]:
    return [value for value in vars(codes).values() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("quantizer", quantizers())
def test_help_has_a_title_a_formula_and_a_source(quantizer: str) -> None:
    text = registry.help(quantizer)
    assert len(text) >= 200 and registry[quantizer].title
    assert re.search(r"Source: .*\d{4}", text, re.S) and "cale" in text and "odes" in text and "Bits: " in text
    assert text.splitlines()[0].endswith(".")


@pytest.mark.parametrize(("quantizer", "bits", "scheme", "slices"), CASES, ids=ids)
def test_what_every_quantizer_holds(quantizer: str, bits: int, scheme: str, slices: Slices, device: str) -> None:
    weight = sample(device)
    before = weight.clone()
    codes = registry[quantizer]().fit(weight, bits, scheme, slices)
    found = codes.fake_quantize(weight)
    assert torch.equal(weight, before) and found.shape == weight.shape and found.device == weight.device
    assert (found[weight == 0] == 0).all() and torch.isfinite(found).all() and codes.bits == bits
    rows = slices.rows(found)
    assert max(len(one[one != 0].unique()) for one in rows) <= 2**bits  # zero is one of these, or none
    assert all(torch.isfinite(one).all() for one in parameters(codes))
    whole = codes.integers(weight)
    assert whole.dtype == torch.int32 and whole.shape == weight.shape and int(whole.max() - whole.min()) < 2**bits
    assert torch.equal(codes.dequantize(whole) * (weight != 0), found.float())  # what is stored is what was computed
    again = registry[quantizer]().fit(weight, bits, scheme, slices)
    assert (
        again.digest == codes.digest
        and codes.digest != registry[quantizer]().fit(weight * 1.7 + 0.1, bits, scheme, slices).digest
        or not parameters(codes)
    )
    if isinstance(codes, Uniform):
        assert codes.scale.shape == slices.parameters == codes.zero_point.shape and (codes.scale > 0).all()
        assert codes.scale.dtype == torch.float32 and codes.zero_point.dtype == torch.int32
        assert codes.low <= int(codes.zero_point.min()) and int(codes.zero_point.max()) <= codes.high
        assert codes.overhead == codes.scale.numel() * (5 if scheme == "affine" else 4)
    if isinstance(codes, Table):
        assert (
            codes.centers.shape[0] == slices.count == codes.edges.shape[0]
            and codes.overhead == codes.stored * slices.count
        )
        assert (codes.edges.diff(dim=1) >= 0).all() and (codes.centers.diff(dim=1) >= 0).all()
    if isinstance(codes, Float):
        assert codes.overhead == (0 if codes.scale is None else 4 * codes.scale.numel())
    for index, row in enumerate(rows):
        levels = codes.levels(index)
        if levels is not None:
            assert levels == sorted(levels) and torch.isin(row, torch.tensor(levels, device=device)).all()


@pytest.mark.parametrize("quantizer", quantizers())
def test_degenerate_tensors(quantizer: str, device: str) -> None:
    """All zeros stay zeros; one constant is met to a rounding (a power of two: to a third), also a tiny or a huge one."""
    entry = registry[quantizer]
    for bits, scheme in itertools.product({min(entry.bits), max(entry.bits)}, entry.schemes):
        for slices in (one for one in SLICES[:2] if one.granularity in entry.granularities):
            zeros = torch.zeros(SHAPE, device=device)
            assert torch.equal(entry().fit(zeros, bits, scheme, slices).fake_quantize(zeros), zeros)
            for value in (0.3, -0.3, 1e-5, 1e4):
                weight = torch.full(SHAPE, value, device=device)
                found = entry().fit(weight, bits, scheme, slices).fake_quantize(weight)
                near = 0.34 if quantizer == "power-of-two" else 0.01
                assert torch.allclose(found, weight, rtol=near, atol=0), (bits, scheme, slices, value, found[0, 0])


@pytest.mark.parametrize("quantizer", quantizers())
def test_more_bits_and_smaller_slices_are_closer(quantizer: str, device: str) -> None:
    weight = torch.randn(8, 128, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.2, 3, 8)[:, None]
    weight = weight.to(device)
    entry = registry[quantizer]
    for scheme in entry.schemes:
        errors = {}
        for bits in sorted({*entry.bits[:3], entry.bits[-1]}):
            for slices in (Slices(), Slices((8, 128), 0), Slices((8, 128), 0, 32)):
                if slices.granularity not in entry.granularities:
                    continue
                found = entry().fit(weight, bits, scheme, slices).fake_quantize(weight)
                errors[bits, slices.granularity] = ((found - weight) ** 2).mean().item()
        for (bits, granularity), error in errors.items():
            assert error < weight.var() and error <= 1.02 * errors.get((bits - 1, granularity), torch.inf), (
                scheme,
                bits,
            )
            # formats' exponents follow small channels anyway; of 4 levels the divergence sees little
            if (
                granularity == "channel"
                and not quantizer.startswith(("fp8", "power"))
                and (bits > 2 or quantizer != "entropy")
            ):
                assert error < errors[bits, "tensor"], (scheme, bits)


@pytest.mark.parametrize("quantizer", quantizers())
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_a_quantizer_quantizes_in_a_recipe(quantizer: str, granularity: str, device: str) -> None:
    entry = registry[quantizer]
    bits = 3 if 3 in entry.bits else entry.bits[0]
    size = 3 if granularity == "group" else None
    if granularity not in entry.granularities:
        with pytest.raises(RecipeError, match=f"with {quantizer}; accepted: tensor"):
            resolve(
                tiny(),
                Recipe().quantize("fc.1", bits=bits, quantizer=quantizer, granularity=granularity, group_size=size),
            )
        return
    recipe = Recipe().prune("*", sparsity=0.5).prune("fc.0", granularity="unit", sparsity=0.3)
    recipe = recipe.quantize("*", bits=bits, quantizer=quantizer, granularity=granularity, group_size=size)
    subject, moved = tiny(), tiny(device=device)
    expected = resolve(subject, recipe)
    for name, layer in resolve(moved, recipe).layers.items():
        found = layer.apply(moved.weight(name)).cpu()
        assert torch.allclose(found, expected.layers[name].apply(subject.weight(name)), atol=1e-6)
        assert (found[~expected.masks[name]] == 0).all() and len(found.unique()) > 1


@pytest.mark.parametrize("quantizer", quantizers())
def test_bits_and_schemes_that_it_does_not_have_are_named(quantizer: str, device: str) -> None:
    entry = registry[quantizer]
    for bits in {1, 2, 8, 16} - set(entry.bits):
        with pytest.raises(RecipeError, match=f"{quantizer} has bits {entry.bits[0]}.*not {bits}") as caught:
            resolve(tiny(device=device), Recipe().quantize("fc.1", bits=bits, quantizer=quantizer))
        assert "fc.1" in str(caught.value)
    if entry.schemes == ("symmetric",):
        with pytest.raises(RecipeError, match="accepted: symmetric"):
            resolve(
                tiny(device=device), Recipe().quantize("fc.1", bits=entry.bits[0], quantizer=quantizer, scheme="affine")
            )
