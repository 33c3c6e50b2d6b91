from __future__ import annotations

import itertools
import re

import pytest
import torch

from explorer.compress.quantizers import quantizers, registry
from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from tests.contract.nets import tiny

CASES = list(itertools.product(quantizers(), (2, 3, 4, 8), ("symmetric", "affine"), (None, 0, 1)))


@pytest.mark.parametrize("quantizer", quantizers())
def test_help_has_a_title_a_formula_and_a_source(quantizer: str) -> None:
    text = registry.help(quantizer)
    assert len(text) >= 200 and registry[quantizer].title
    assert re.search(r"Source: .*\d{4}", text, re.S) and "scale" in text and text.splitlines()[0].endswith(".")


@pytest.mark.parametrize(("quantizer", "bits", "scheme", "axis"), CASES)
def test_what_every_quantizer_holds(quantizer: str, bits: int, scheme: str, axis: int | None, device: str) -> None:
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)).to(device) + 0.3
    weight[weight.abs() < 0.4] = 0
    weight[2] = 0
    before = weight.clone()
    codes = registry[quantizer]().fit(weight, bits, scheme, axis)
    found = codes.fake_quantize(weight)
    assert torch.equal(weight, before) and found.shape == weight.shape and found.device == weight.device
    assert (found[weight == 0] == 0).all() and torch.isfinite(found).all()
    assert (
        codes.scale.shape == (() if axis is None else (weight.shape[axis],))
        and codes.zero_point.shape == codes.scale.shape
    )
    assert (codes.scale > 0).all() and codes.scale.dtype == torch.float32 and codes.zero_point.dtype == torch.int32
    slices = [found] if axis is None else found.unbind(axis)
    assert max(len(one.unique()) for one in slices) <= 2**bits
    assert torch.allclose(codes.fake_quantize(found), found, atol=1e-6)  # levels stay where they are
    again = registry[quantizer]().fit(weight, bits, scheme, axis)
    assert torch.equal(again.scale, codes.scale) and torch.equal(again.zero_point, codes.zero_point)
    assert codes.low <= int(codes.zero_point.min()) and int(codes.zero_point.max()) <= codes.high
    assert codes.overhead == codes.scale.numel() * (5 if scheme == "affine" else 4)


@pytest.mark.parametrize("quantizer", quantizers())
@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
def test_more_bits_are_closer(quantizer: str, scheme: str, device: str) -> None:
    weight = torch.randn(8, 100, generator=torch.Generator().manual_seed(1)).to(device)
    errors = []
    for bits in range(2, 9):
        for axis in (None, 0):
            found = registry[quantizer]().fit(weight, bits, scheme, axis).fake_quantize(weight)
            errors.append(((found - weight) ** 2).mean().item())
    tensor, channel = errors[::2], errors[1::2]
    assert tensor == sorted(tensor, reverse=True) and channel == sorted(channel, reverse=True)
    assert all(c <= t for c, t in zip(channel, tensor, strict=True))


@pytest.mark.parametrize("quantizer", quantizers())
def test_a_quantizer_quantizes_in_a_recipe(quantizer: str, device: str) -> None:
    subject, moved = tiny(), tiny(device=device)
    recipe = Recipe().prune("*", sparsity=0.5).quantize("*", bits=3, quantizer=quantizer)
    expected = resolve(subject, recipe)
    for name, layer in resolve(moved, recipe).layers.items():
        found = layer.apply(moved.weight(name)).cpu()
        assert torch.allclose(found, expected.layers[name].apply(subject.weight(name)), atol=1e-6)
        assert (found[~expected.masks[name]] == 0).all()
