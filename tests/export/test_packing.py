"""Packing restores every bit, of any tensor, and a hostile file takes nothing."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import explorer
import sample_models
from explorer.compress.quantizers import registry as quantizers
from explorer.core.errors import LoadError
from explorer.evaluate.costs import counts
from explorer.export.exporters import registry
from explorer.export.packing import indices, streams
from explorer.export.packing.container import START, dumps, loads
from explorer.export.packing.plan import hints
from explorer.export.packing.slices import Slices
from explorer.export.packing.values import Hint, bits_of
from tests.contract.nets import sample, wide

NAMES = tuple(sample_models.SAMPLES)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((bits_of(a) == bits_of(b)).all())


@given(st.integers(1, 16), st.integers(0, 300), st.integers(0, 2**31))
def test_bits_come_back(bits: int, count: int, seed: int) -> None:
    symbols = np.random.default_rng(seed).integers(0, 1 << bits, count)
    packed = streams.pack_bits(symbols, bits)
    assert len(packed) == -(-count * bits // 8)
    assert (streams.unpack_bits(packed, bits, count) == symbols).all()
    assert (streams.decode(streams.encode(symbols, bits), "here") == symbols).all()


def test_packed_bits_are_a_plain_run_of_bits() -> None:
    assert streams.pack_bits(np.array([0b101, 0b001, 0b111]), 3) == bytes([0b10100111, 0b10000000])


def test_the_coders_decode_what_an_independent_one_wrote() -> None:
    data = bytes(range(256)) * 3
    assert streams.expand("zlib", zlib.compress(data)[2:-4], len(data), "here") == data  # DEFLATE without zlib's frame
    for coder, coded in (streams.squeeze(data), streams.squeeze(b"\0" * 1000), streams.squeeze(b"x")):
        assert coder in streams.CODERS and len(coded) <= len(data)
    skewed = np.random.default_rng(0).geometric(0.5, 20_000).clip(max=15)
    probabilities = np.bincount(skewed) / len(skewed)
    entropy = -sum(p * np.log2(p) for p in probabilities if p) * len(skewed) / 8
    assert len(streams.encode(skewed, 4).data) < 1.05 * entropy  # entropy-coded, not only packed


@given(st.lists(st.booleans(), max_size=400), st.integers(1, 10))
def test_a_relative_index_is_its_positions(alive: list[bool], bits: int) -> None:
    positions = np.flatnonzero(np.array(alive, bool))
    symbols = indices.gaps(positions, bits)
    assert not len(symbols) or symbols.max() < 1 << bits
    assert (indices.from_gaps(symbols, bits) == positions).all()


def test_a_gap_too_long_for_its_bits_takes_fillers() -> None:
    assert indices.gaps(np.array([0, 3, 11]), 2).tolist() == [
        0,
        2,
        3,
        3,
        1,
    ]  # 7 zeros: twice 3 without a weight, then 1


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(DTYPES), st.lists(st.integers(0, 7), max_size=4), st.floats(0, 1), st.integers(1, 40), st.integers(0, 2**31)
)  # fmt: skip
def test_any_tensor_comes_back_bit_by_bit(
    device: str, dtype: torch.dtype, shape: list[int], density: float, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(levels)[rng.integers(0, levels, shape)] * (rng.random(shape) < density)
    tensor = torch.from_numpy(np.asarray(values)).to(wide(device) if dtype == torch.float64 else dtype).to(device)
    found, metadata = loads(dumps({"a.b": tensor}, {"x": "y"}, {}))
    assert same_bits(found["a.b"], tensor) and metadata == {"x": "y"}


def test_odd_floats_survive(device: str) -> None:
    odd = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-45, 3.4e38, 1.0], device=device)
    assert same_bits(loads(dumps({"a": odd}, {}, {}))[0]["a"], odd)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(1, 5), st.booleans(), st.data())
def test_slices_are_those_of_the_moved_layout(shape: list[int], size: int, gates: bool, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    parts = data.draw(st.sampled_from([n for n in range(1, 7) if shape[axis] % n == 0])) if gates else None
    slices = Slices(tuple(shape), axis, None if gates else size, parts)
    rest = int(np.prod(shape)) // shape[axis]
    if parts:
        expected = (np.arange(shape[axis]) // (shape[axis] // parts))[:, None] + 0 * np.arange(rest)
    else:
        expected = np.arange(shape[axis])[:, None] * -(-rest // size) + np.arange(rest) // size
    expected = np.moveaxis(expected.reshape([shape[axis], *(n for d, n in enumerate(shape) if d != axis)]), 0, axis)
    assert slices.count == expected.max() + 1
    assert (slices.of(np.arange(expected.size)) == expected.reshape(-1)).all()
    assert Slices.read(json.loads(json.dumps(slices.row)), tuple(shape), "here") == slices


RECIPES: dict[str, Callable[[Any], explorer.Recipe]] = {
    "original": lambda subject: explorer.Recipe(),
    "pruned": lambda subject: explorer.Recipe().prune("*", sparsity=0.8, scope="global"),
    "all zero": lambda subject: explorer.Recipe().prune(subject.layers[0].name, threshold=1e9),
    "shrunk": lambda subject: explorer.Recipe().prune("*", sparsity=0.5, mode="shrink"),
    "tensor": lambda subject: explorer.Recipe().prune("*", sparsity=0.9).quantize("*", bits=5, scheme="affine"),
    "channel": lambda subject: explorer.Recipe().prune("*", sparsity=0.5).quantize("*", bits=3, granularity="channel"),
    "group": lambda subject: (
        explorer.Recipe().prune("*", sparsity=0.5).quantize("*", bits=4, granularity="group", group_size=16)
    ),
    "units": lambda subject: _units(subject).quantize("*", bits=4, granularity="channel", scheme="affine"),
}


def _units(subject: Any) -> explorer.Recipe:
    recipe = explorer.Recipe().prune("*", sparsity=0.5)
    return (
        recipe.prune([g.producers[0] for g in subject.groups], sparsity=0.5, granularity="unit")
        if subject.groups
        else recipe
    )


FAST = ("vowels-lstm", "bikes-mlp", "surnames-gru")
SLOW = [pytest.param(n, r, marks=() if n in FAST or r == "units" else pytest.mark.slow) for n in NAMES for r in RECIPES]


@pytest.mark.parametrize(("name", "kind"), SLOW)
def test_a_sample_unpacks_bit_by_bit(name: str, kind: str, subject_of, tmp_path: Path) -> None:
    subject = subject_of(name)
    recipe = RECIPES[kind](subject)
    plan = explorer.resolve(subject, recipe)
    module = explorer.compress(subject, plan)
    entry = registry["packed"]()
    entry.write(subject, plan, module, tmp_path)
    assert entry.verify(subject, plan, module, tmp_path) == 0
    found = explorer.load_packed(tmp_path)
    state = module.state_dict()
    assert set(found) >= set(state) and all(same_bits(found[key], state[key]) for key in state)
    loaded, x = explorer.load_exported(tmp_path / "model.packed"), subject.example(7)
    with torch.no_grad():
        assert torch.equal(loaded(x), module(x))
    counted = counts(subject, plan).bytes
    text = json.dumps(entry_header(tmp_path / "model.packed")["metadata"])
    assert (tmp_path / "model.packed").stat().st_size < counted + len(text) + 200 * len(found)


@pytest.mark.parametrize(
    ("quantizer", "granularity"), [(name, one) for name in sorted(quantizers) for one in quantizers[name].granularities]
)
def test_every_quantizer_packs_to_its_bits(quantizer: str, granularity: str, subject_of) -> None:
    """Bit by bit, and into about the counted bytes: whatever is registered, in the shape that remains."""
    entry, subject = quantizers[quantizer], subject_of("vowels-lstm")
    for bits in {entry.bits[0], entry.bits[-1]}:
        size = 24 if granularity == "group" else None
        recipe = _units(subject).quantize(
            "lstm", bits=bits, quantizer=quantizer, scheme=entry.schemes[-1], granularity=granularity, group_size=size
        )
        plan = explorer.resolve(subject, recipe)
        state = explorer.compress(subject, plan).state_dict()
        data = dumps(state, {}, hints(subject, plan))
        found = loads(data)[0]
        assert all(same_bits(found[key], state[key]) for key in state)
        assert len(data) < counts(subject, plan).bytes + 80 * len(state)


def entry_header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    _, stored, size, _ = START.unpack_from(data)
    return json.loads(zlib.decompress(data[START.size : START.size + stored], -15))


def test_deep_compression_of_the_mlp_is_25_times_smaller(tmp_path: Path, device: str) -> None:
    subject = sample("fashion-mlp", device)
    recipe = explorer.Recipe().prune("*", sparsity=0.9, scope="global").quantize("*", bits=5)
    plan = explorer.resolve(subject, recipe)
    sizes = {}
    for name, what in (("safetensors", explorer.Recipe()), ("packed", recipe)):
        entry, chosen = registry[name](), explorer.resolve(subject, what)
        module = explorer.compress(subject, chosen)
        entry.write(subject, chosen, module, tmp_path)
        sizes[name] = (tmp_path / entry.filename).stat().st_size
    assert sizes["safetensors"] / sizes["packed"] >= 25
    found = explorer.load_packed(tmp_path)
    assert all(same_bits(found[key], value) for key, value in explorer.compress(subject, plan).state_dict().items())


def _scaled(steps: Tensor, scale: Tensor) -> tuple[Tensor, Hint]:
    """[rows, columns] values with a scale a row, and how they came about."""
    slices = Slices(tuple(steps.shape), 0)
    return steps * scale[:, None], Hint(slices, steps.reshape(-1).numpy(), scale.numpy())


@pytest.mark.parametrize(
    "steps", [torch.arange(-7.0, 8), torch.tensor([-4.0, -1.0, -0.25, 0.25, 1.0, 4.0]), torch.tensor([-1.0, 1.0])]
)
def test_a_scale_a_channel_is_cheaper_than_tables(steps: Tensor, device: str) -> None:
    torch.manual_seed(0)
    values, how = _scaled(steps[torch.randint(len(steps), (64, 128))], torch.rand(64) + 0.1)
    values = values.to(device)
    with_scale, without = dumps({"a": values}, {}, {"a": how}), dumps({"a": values}, {}, {})
    assert len(with_scale) < 0.7 * len(without)
    assert same_bits(loads(with_scale)[0]["a"], values) and same_bits(loads(without)[0]["a"], values)


def test_a_wrong_hint_costs_bytes_and_no_bit(device: str) -> None:
    values = torch.linspace(-1, 1, 64).reshape(8, 8).to(device)
    how = Hint(Slices((8, 8), 0), np.ones(64, np.float32), np.ones(8, np.float32))
    assert same_bits(loads(dumps({"a": values}, {}, {"a": how}))[0]["a"], values)


def test_a_bundle_with_packed_alone_loads_from_its_folder_and_zip(subject_of, tmp_path: Path) -> None:
    subject = subject_of("bikes-mlp")
    bundle = explorer.export(subject, explorer.Recipe().quantize("*", bits=4), tmp_path / "out", formats="packed")
    x = subject.example(3)
    with torch.no_grad():
        expected = explorer.load_exported(bundle.folder / "model.packed")(x)
        for place in (bundle.folder, bundle.zip_path):
            assert torch.equal(explorer.load_exported(place)(x), expected)
    with pytest.raises(LoadError, match="no such file"):
        explorer.load_packed(tmp_path / "nowhere")
