"""Every quantizer against an independent reference: torch's own operations, scikit-learn, or the definition in plain loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer.compress import kmeans
from explorer.compress.codes import Float, Table, Uniform
from explorer.compress.quantizers import registry
from explorer.compress.resolve import resolve
from explorer.compress.slices import Slices
from explorer.core.errors import RecipeError
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import counts
from tests.contract.nets import SAMPLES, CharLM, few, language, tiny

UNIFORM = ("minmax", "percentile", "mse", "entropy")


def by_torch(weight: Tensor, codes: Uniform) -> Tensor:
    """torch.fake_quantize with the scales found; groups and gates as rows of a matrix."""
    rows = codes.slices.rows(weight)
    scale, zero = codes.scale.reshape(-1), codes.zero_point.reshape(-1)
    if codes.slices.granularity == "tensor":
        return torch.fake_quantize_per_tensor_affine(weight, codes.scale, codes.zero_point, codes.low, codes.high)
    found = torch.fake_quantize_per_channel_affine(rows.contiguous(), scale, zero, 0, codes.low, codes.high)
    return codes.slices.back(found, weight.shape)


@pytest.mark.parametrize("name", SAMPLES)
def test_uniform_quantizers_of_every_sample_layer_round_as_torch_does(name: str, device: str) -> None:
    subject = few(name, device=device)
    chosen = itertools.product(UNIFORM if name == "vowels-rnn" else ("minmax", "percentile"), ("symmetric", "affine"))
    for quantizer, scheme in chosen:
        for more in ({"granularity": "channel"}, {"granularity": "group", "group_size": 32}):
            if more["granularity"] not in registry[quantizer].granularities:
                continue
            plan = resolve(subject, Recipe().quantize("*", bits=4, quantizer=quantizer, scheme=scheme, **more))  # type: ignore[arg-type]
            for layer in subject.layers:
                weight, codes = subject.weight(layer.name), plan.codes[layer.name]
                assert isinstance(codes, Uniform)
                assert torch.equal(plan.layers[layer.name].apply(weight), by_torch(weight, codes)), (
                    layer.name,
                    quantizer,
                    scheme,
                    more,
                )


def test_groups_lie_along_each_channel_and_the_last_may_be_shorter(device: str) -> None:
    weight = torch.randn(3, 5, 7).to(device)
    codes = registry["minmax"]().fit(weight, 4, "symmetric", Slices((3, 5, 7), 0, 16))
    assert isinstance(codes, Uniform) and codes.scale.shape == (3, 3)
    for channel, (index, start) in itertools.product(range(3), enumerate((0, 16, 32))):
        part = weight[channel].flatten()[start : start + 16]
        assert codes.scale[channel, index] == part.abs().max() / 7
        own = registry["minmax"]().fit(part, 4, "symmetric", Slices())
        assert torch.equal(codes.fake_quantize(weight)[channel].flatten()[start : start + 16], own.fake_quantize(part))
    axis = Slices((3, 5, 7), 1, 4)
    assert torch.equal(axis.back(axis.rows(weight), weight.shape), weight) and axis.parameters == (5, 6)
    assert torch.equal(
        axis.spread(torch.arange(30.0, device=device).view(5, 6), weight)[2, 3].cpu(),
        torch.arange(18.0, 24).repeat_interleave(4)[14:21],
    )


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_gates_have_scales_of_their_own(cell: str, gates: int, device: str) -> None:
    module = torch.nn.Sequential({"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell](6, 8))
    subject = tiny(module, (4, 6), device)
    subject.task.__dict__["forward"] = lambda m, x: m(x)[0].mean(1)[:, :3]
    plan = resolve(subject, Recipe().quantize("*", bits=3, granularity="gate", scheme="affine"))
    for name, codes in plan.codes.items():
        weight = subject.weight(name)
        assert isinstance(codes, Uniform) and codes.scale.shape == (gates,)
        for block, found in zip(weight.chunk(gates), codes.fake_quantize(weight).chunk(gates), strict=True):
            own = registry["minmax"]().fit(block, 3, "affine", Slices())
            assert torch.equal(found, own.fake_quantize(block))


def test_embeddings_and_gates_in_a_language_model(device: str) -> None:
    subject = tiny(CharLM(), device=device)
    subject = type(subject)(subject.module, language(), "lm")
    plan = resolve(
        subject,
        Recipe().quantize("embedding", bits=8, granularity="channel").quantize("lstm", bits=4, granularity="gate"),
    )
    rows = plan.codes["embedding.weight"]
    assert isinstance(rows, Uniform) and rows.scale.shape == (11,)
    with pytest.raises(
        RecipeError, match="head.weight .linear. has no gates; accepted for its granularity: tensor, channel or group"
    ):
        resolve(subject, Recipe().quantize("head", bits=4, granularity="gate"))


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
def test_percentile_is_numpys(scheme: str, device: str) -> None:
    weight = torch.randn(5, 1000).to(device)
    weight[weight.abs() < 0.3] = 0
    codes = registry["percentile"]().fit(weight, 4, scheme, Slices((5, 1000), 0))
    assert isinstance(codes, Uniform)
    for row, scale in zip(weight.cpu().double().numpy(), codes.scale.tolist(), strict=True):
        left = row[row != 0]
        if scheme == "symmetric":
            assert scale == pytest.approx(np.quantile(np.abs(left), 0.999) / 7, rel=1e-6)
        else:
            assert scale == pytest.approx((np.quantile(left, 0.9995) - np.quantile(left, 0.0005)) / 15, rel=1e-6)


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("bits", [2, 4])
def test_no_other_factor_has_a_smaller_squared_error(scheme: str, bits: int, device: str) -> None:
    weight = torch.randn(3, 200) * torch.tensor([1.0, 5, 0.1])[:, None]
    weight = weight.to(device)
    codes = registry["mse"]().fit(weight, bits, scheme, Slices((3, 200), 0))
    error = (codes.fake_quantize(weight) - weight).cpu().double().square().sum(1)
    for factor in np.arange(0.01, 1.001, 0.01):
        for row in range(3):
            t = float(weight[row].abs().max() * factor)
            tried = registry["minmax"]().fit(weight[row].clamp(-t, t), bits, scheme, Slices())
            assert error[row] <= (tried.fake_quantize(weight[row]) - weight[row]).cpu().double().square().sum() * (
                1 + 1e-5
            )


@pytest.mark.parametrize("bits", [2, 3, 6])
def test_powers_of_two_by_search(bits: int, device: str) -> None:
    weight = torch.cat([torch.randn(500), torch.tensor([2.0**-3, -(2.0**-2), 1.0, 0.75, 1.4999, 1.5001])]).to(device)
    codes = registry["power-of-two"]().fit(weight, bits, "symmetric", Slices())
    top = math.floor(math.log2(4 / 3 * weight.abs().max().item()))
    powers = [2.0 ** (top - k) for k in range(2 ** (bits - 1) - 1)]
    levels = torch.tensor(sorted({0.0, *powers, *(-p for p in powers)}), device=device)
    nearest = levels[(weight[:, None] - levels).abs().argmin(1)]
    assert torch.equal(codes.fake_quantize(weight), nearest) and codes.levels() == levels.tolist()
    whole = codes.integers(weight)
    sizes = torch.tensor([0.0, *sorted(powers)], device=device)
    assert torch.equal(whole.sign() * sizes[whole.abs()], nearest) and codes.overhead == 1


def test_ternary_and_binary_by_hand(device: str) -> None:
    weight = torch.tensor([[0.1, -0.9, 0.5, 0.0, 0.5], [2.0, -4.0, 0.0, 0.0, 1.0]]).to(device)
    three = registry["ternary"]().fit(weight, 2, "symmetric", Slices((2, 5), 0))
    assert torch.allclose(
        three.fake_quantize(weight).cpu(), torch.tensor([[0, -1.9 / 3, 1.9 / 3, 0, 1.9 / 3], [3.0, -3, 0, 0, 0]])
    )
    assert (
        three.integers(weight).tolist() == [[0, -1, 1, 0, 1], [1, -1, 0, 0, 0]]
        and three.overhead == 8
        and three.codes_zero
    )
    one = registry["binary"]().fit(weight, 1, "symmetric", Slices((2, 5), 0))
    assert torch.allclose(
        one.fake_quantize(weight).cpu(), torch.tensor([[0.5, -0.5, 0.5, 0, 0.5], [7 / 3, -7 / 3, 0, 0, 7 / 3]])
    )
    assert one.integers(weight).tolist() == [[1, 0, 1, 0, 1], [1, 0, 0, 0, 1]] and not one.codes_zero


FORMATS = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8-e4m3": torch.float8_e4m3fn,
    "fp8-e5m2": torch.float8_e5m2,
}


@pytest.mark.parametrize(("name", "dtype"), FORMATS.items())
def test_formats_are_torchs_casts(name: str, dtype: torch.dtype, device: str) -> None:
    weight = torch.cat([torch.randn(4000) * 3, torch.randn(1000) * 1e-3, torch.tensor([0.0, -0.0, 1.0, 1e5, -1e5])]).to(
        device
    )
    codes = registry[name]().fit(weight, registry[name].bits[0], "symmetric", Slices())
    assert isinstance(codes, Float)
    scale = torch.ones((), device=device) if codes.scale is None else codes.scale
    largest = torch.finfo(dtype).max
    expected = (weight / scale).clamp(-largest, largest).to(dtype)
    assert torch.equal(codes.fake_quantize(weight), expected.float() * scale)
    assert torch.equal(
        codes.integers(weight),
        expected.view(torch.uint8 if codes.bits == 8 else torch.int16).int() & (2**codes.bits - 1),
    )
    if codes.scale is not None:
        assert float(scale) == pytest.approx(1e5 / largest) and codes.levels()[-1] == pytest.approx(1e5)  # type: ignore[index]
    else:
        assert codes.levels() is None
        assert codes.fake_quantize(torch.tensor([1e6, -1e6], device=device))[0].cpu() == (
            65504.0 if name == "fp16" else torch.tensor(1e6).bfloat16().float()
        )


@pytest.mark.parametrize("name", SAMPLES)
def test_codebooks_are_as_good_as_scikit_learns_on_every_sample_layer(name: str, device: str) -> None:
    from sklearn.cluster import KMeans

    subject = few(name, device=device)
    for layer in subject.layers:
        weight = subject.weight(layer.name).clone()
        weight[weight.abs() < weight.abs().median() * 0.5] = 0  # pruned weights take no part
        left = weight[weight != 0].cpu().double()
        values, count = kmeans.ordered(weight.reshape(1, -1))
        for start, bits in ((kmeans.linear, 4), (kmeans.density, 3), (kmeans.random, 2)):
            first = start(values, count, 2**bits)
            codes = registry[f"kmeans-{start.__name__}"]().fit(weight, bits, "symmetric", Slices())
            ours = (codes.fake_quantize(weight) - weight).cpu().double().square().sum().item()
            other = KMeans(2**bits, init=first.view(-1, 1).cpu().numpy(), n_init=1, algorithm="lloyd").fit(
                left.view(-1, 1).numpy()
            )
            assert ours <= other.inertia_ * (1 + 1e-5), (layer.name, start.__name__, ours, other.inertia_)
            assert (codes.fake_quantize(weight)[weight == 0] == 0).all()


def test_starts_of_the_codebook(device: str) -> None:
    weight = torch.tensor([[0.0, 4, 1, 0, 2, 3, -4, 8, 5, 6]]).to(device)
    values, count = kmeans.ordered(weight)
    assert count.tolist() == [8] and values[0, :8].tolist() == [-4, 1, 2, 3, 4, 5, 6, 8]
    assert kmeans.linear(values, count, 4).tolist() == [[-4, 0, 4, 8]]
    assert kmeans.density(values, count, 4).tolist() == [[1, 3, 5, 8]]
    drawn = kmeans.random(values, count, 4)[0]
    assert (
        len(drawn.unique()) == 4
        and torch.isin(drawn, values).all()
        and torch.equal(drawn, kmeans.random(values, count, 4)[0])
    )


def test_a_lost_center_moves_and_few_values_have_levels_of_their_own(device: str) -> None:
    weight = torch.cat([torch.full((50,), -1.0), torch.full((50,), 1.0), torch.tensor([1.02, 0.98, 0.5])])
    weight = weight.to(device)
    codes = registry["kmeans-linear"]().fit(weight, 2, "symmetric", Slices())
    assert torch.allclose(codes.fake_quantize(weight), weight, atol=0.021)  # -1, 0.5, 1 and one of its neighbours
    three = torch.tensor([0.3, 0.3, -2.0, 0.0, 5.0, 5.0], device=device)
    codes = registry["kmeans-random"]().fit(three, 4, "symmetric", Slices())
    assert torch.equal(codes.fake_quantize(three), three) and codes.levels() == sorted({0.0, *three.tolist()})


def test_bytes_of_codebooks_groups_and_formats(device: str) -> None:
    subject = tiny(device=device)  # fc.1: 5 x 8
    sizes = {
        "kmeans-linear": (dict(bits=2), 10 + 16), "binary": (dict(bits=1, granularity="channel"), 5 + 20), "ternary": (dict(bits=2), 10 + 4),
        "power-of-two": (dict(bits=4), 20 + 1), "fp16": (dict(bits=16), 80), "fp8-e4m3": (dict(bits=8), 40 + 4),
        "minmax": (dict(bits=4, granularity="group", group_size=3, scheme="affine"), 20 + 15 * 5),
    }  # fmt: skip
    for quantizer, (rule, expected) in sizes.items():
        found = counts(subject, resolve(subject, Recipe().quantize("fc.1", quantizer=quantizer, **rule)))  # type: ignore[arg-type]
        assert found.sizes["quantized"] == expected + 4 * (48 + 15 + 16), quantizer
    pruned = resolve(subject, Recipe().prune("fc.1", sparsity=0.5).quantize("fc.1", bits=2, quantizer="kmeans-linear"))
    assert counts(subject, pruned).sizes["quantized"] == (5 + 5 + 16) + 4 * (
        48 + 15 + 16
    )  # zeros have no code: a bitmap
    codes = pruned.codes["fc.1.weight"]
    assert isinstance(codes, Table) and codes.sparse and 0.0 not in codes.centers


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite(value: float, device: str) -> None:
    subject = tiny(device=device)
    with torch.no_grad():
        subject.module.fc[1].weight[0, 0] = value
    with pytest.raises(
        RecipeError, match="fc.1.weight: its weights hold NaN or infinity; accepted for quantization: finite"
    ):
        resolve(subject, Recipe().quantize("fc.1", bits=4))
