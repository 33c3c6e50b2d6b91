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
from explorer.core.errors import LoadError
from explorer.export.exporters import registry
from explorer.export.packing import indices, streams
from explorer.export.packing.container import MAGIC, START, dumps, loads
from explorer.export.packing.slices import Slices
from explorer.export.packing.values import Grid, bits_of

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
    assert indices.gaps(np.array([0, 3, 11]), 2).tolist() == [0, 2, 3, 3, 1]  # 7 zeros: twice 3 without a weight, then 1


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(DTYPES), st.lists(st.integers(0, 7), max_size=4), st.floats(0, 1), st.integers(1, 40), st.integers(0, 2**31)
)  # fmt: skip
def test_any_tensor_comes_back_bit_by_bit(dtype: torch.dtype, shape: list[int], density: float, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(levels)[rng.integers(0, levels, shape)] * (rng.random(shape) < density)
    tensor = torch.from_numpy(np.asarray(values)).to(dtype)
    found, metadata = loads(dumps({"a.b": tensor}, {"x": "y"}, {}))
    assert same_bits(found["a.b"], tensor) and metadata == {"x": "y"}


def test_odd_floats_survive() -> None:
    odd = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-45, 3.4e38, 1.0])
    assert same_bits(loads(dumps({"a": odd}, {}, {}))[0]["a"], odd)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(1, 5), st.data())
def test_slices_are_those_of_the_original_positions(shape: list[int], group: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    keep = st.lists(st.integers(0, 99), min_size=1, max_size=6)
    kept = {d: tuple(sorted({i % n for i in data.draw(keep)})) for d, n in enumerate(shape) if data.draw(st.booleans())}
    slices = Slices(tuple(shape), axis, group, kept)
    rest = int(np.prod(shape)) // shape[axis]
    per = -(-rest // group)
    expected = np.arange(shape[axis])[:, None] * per + np.arange(rest) // group  # independent: by hand in the moved layout
    expected = np.moveaxis(expected.reshape([shape[axis], *(n for d, n in enumerate(shape) if d != axis)]), 0, axis)
    for dim, index in kept.items():
        expected = expected.take(index, dim)
    assert slices.left == expected.shape and slices.count == shape[axis] * per
    assert (slices.of(np.arange(expected.size)) == expected.reshape(-1)).all()
    assert Slices.read(json.loads(json.dumps(slices.row)), slices.left, "here") == slices


RECIPES: dict[str, Callable[[Any], explorer.Recipe]] = {
    "original": lambda subject: explorer.Recipe(),
    "pruned": lambda subject: explorer.Recipe().prune("*", sparsity=0.8, scope="global"),
    "all zero": lambda subject: explorer.Recipe().prune(subject.layers[0].name, threshold=1e9),
    "shrunk": lambda subject: explorer.Recipe().prune("*", sparsity=0.5, mode="shrink"),
    "tensor": lambda subject: explorer.Recipe().prune("*", sparsity=0.9).quantize("*", bits=5, scheme="affine"),
    "channel": lambda subject: explorer.Recipe().prune("*", sparsity=0.5).quantize("*", bits=3, granularity="channel"),
    "units": lambda subject: _units(subject).quantize("*", bits=4, granularity="channel", scheme="affine"),
}


def _units(subject: Any) -> explorer.Recipe:
    recipe = explorer.Recipe().prune("*", sparsity=0.5)
    return recipe.prune([g.producers[0] for g in subject.groups], sparsity=0.5, granularity="unit") if subject.groups else recipe


SLOW = [pytest.param(n, r, marks=() if n == "fashion-lenet5" or r == "units" else pytest.mark.slow) for n in NAMES for r in RECIPES]


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
    counted = explorer.evaluate(subject, recipe).bytes
    text = json.dumps(entry_header(tmp_path / "model.packed")["metadata"])
    assert (tmp_path / "model.packed").stat().st_size < counted + len(text) + 200 * len(found)


def entry_header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    _, stored, size, _ = START.unpack_from(data)
    return json.loads(zlib.decompress(data[START.size : START.size + stored], -15))


def test_deep_compression_of_the_mlp_is_25_times_smaller(tmp_path: Path) -> None:
    subject = explorer.load("fashion-mlp")
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


def test_a_scale_a_channel_is_cheaper_than_tables_where_it_fits() -> None:
    torch.manual_seed(0)
    weight, scale = torch.randint(-7, 8, (64, 128)), torch.rand(64) + 0.1
    values = weight.float() * scale[:, None]
    how = Slices((64, 128), 0), Grid(4, -7, scale.numpy(), np.zeros(64, np.int32))
    with_grid, without = dumps({"a": values}, {}, {"a": how}), dumps({"a": values}, {}, {})
    assert len(with_grid) < 0.6 * len(without)
    assert same_bits(loads(with_grid)[0]["a"], values) and same_bits(loads(without)[0]["a"], values)


def test_a_wrong_hint_costs_bytes_and_no_bit() -> None:
    values = torch.linspace(-1, 1, 64).reshape(8, 8)
    how = Slices((8, 8), 0), Grid(4, -7, np.ones(8, np.float32), np.zeros(8, np.int32))
    assert same_bits(loads(dumps({"a": values}, {}, {"a": how}))[0]["a"], values)


def _file(header: Any, body: bytes = b"", check: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    stored = coder.compress(text) + coder.flush()
    whole = stored + body
    return START.pack(MAGIC, len(stored), len(text), zlib.crc32(whole) if check is None else check) + whole


def _head(**tensors: Any) -> dict[str, Any]:
    return {"format": "compression-explorer-packed", "version": 1, "metadata": {}, "tensors": tensors}


def _row(**changes: Any) -> dict[str, Any]:
    plain = {"shape": [4], "dtype": "uint8", "index": "dense", "values": "raw", "streams": [["bytes", "raw", 8, 4, 4]]}
    return plain | changes


GRID = {"values": "uniform", "dtype": "float32", "slices": {"axis": None}, "low": -1, "zeros": 0}
TABLE = {"values": "table", "slices": {"axis": None}, "entries": 2}
BYTE = ["bytes", "raw", 8, 1, 1]
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "another file": b"PK\3\4" + bytes(40),
    "a header beyond the end": START.pack(MAGIC, 1 << 31, 10, 0) + b"x",
    "a header that inflates": START.pack(MAGIC, 20, (1 << 32) - 1, 0) + bytes(20),
    "a wrong checksum": _file(_head(a=_row()), bytes(4), check=1),
    "no JSON": _file(b"{"),
    "deep JSON": _file(b"[" * 100_000),
    "a list": _file([]),
    "another version": _file(_head() | {"version": 2}),
    "no tensors": _file(_head() | {"tensors": []}),
    "a tensor that is none": _file(_head(a=7)),
    "a huge tensor": _file(_head(a=_row(shape=[1 << 30, 1 << 30]))),
    "a bomb of zeros": _file(_head(a=_row(shape=[1 << 29], index="relative", streams=[["bits", "raw", 3, 0, 0], ["bytes", "raw", 8, 0, 0]]))),
    "many tensors": _file(_head(**{f"t{i}": _row(shape=[1 << 24]) for i in range(8)})),
    "a negative size": _file(_head(a=_row(shape=[-4]))),
    "a size that is a text": _file(_head(a=_row(shape=["4"]))),
    "an unknown dtype": _file(_head(a=_row(dtype="complex64")), bytes(4)),
    "an unknown index": _file(_head(a=_row(index="csr")), bytes(4)),
    "an unknown coder": _file(_head(a=_row(streams=[["bytes", "pickle", 8, 4, 4]])), bytes(4)),
    "too few bytes": _file(_head(a=_row()), bytes(3)),
    "too many bytes": _file(_head(a=_row()), bytes(5)),
    "bytes in the wrong place": _file(_head(a=_row(streams=[["bytes", "raw", 8, 4, -4]]))),
    "a count that lies": _file(_head(a=_row(streams=[["bytes", "raw", 8, 5, 5]])), bytes(5)),
    "a stream too long": _file(_head(a=_row(streams=[["bytes", "zlib", 8, 1 << 40, 4]])), bytes(4)),
    "a bool of 7": _file(_head(a=_row(dtype="bool")), b"\1\0\7\1"),
    "an index beyond the end": _file(_head(a=_row(index="relative", streams=[BYTE, BYTE])), b"\x09\1"),
    "a bitmap with bits beyond the end": _file(_head(a=_row(index="bitmap", streams=[BYTE, BYTE])), b"\x01\1"),
    "a bitmap of another length": _file(_head(a=_row(index="bitmap", streams=[["bytes", "raw", 8, 2, 2], BYTE])), b"\x80\0\1"),
    "no streams": _file(_head(a=_row(index="bitmap", streams=[]))),
    "fewer values than survivors": _file(_head(a=_row(index="bitmap", streams=[BYTE, BYTE])), b"\xf0\1"),
    "a symbol too wide": _file(_head(a=_row(streams=[["bytes", "raw", 3, 4, 4]])), b"\xff" * 4),
    "a grid without scales": _file(_head(a=_row(**GRID)), bytes(4)),
    "a grid with an odd low": _file(_head(a=_row(**GRID | {"low": 1e9}, streams=[["bytes", "raw", 8, 4, 4], BYTE, BYTE, BYTE, BYTE])), bytes(8)),
    "slices of another shape": _file(_head(a=_row(**TABLE | {"slices": {"axis": 0, "from": [9]}})), bytes(4)),
    "slices kept from outside": _file(_head(a=_row(**TABLE | {"slices": {"axis": 0, "from": [4], "kept": {"0": [0, 1, 2, 9]}}})), bytes(4)),
    "slices without end": _file(_head(a=_row(**TABLE | {"slices": {"axis": 0, "from": [1 << 30, 1 << 30], "kept": {"0": [0] * 4}}})), bytes(4)),
    "a group of none": _file(_head(a=_row(**TABLE | {"slices": {"axis": 0, "group": 0}})), bytes(4)),
    "a code outside of its table": _file(_head(a=_row(**TABLE, streams=[["bytes", "raw", 8, 4, 4], ["bytes", "raw", 8, 2, 2]])), b"\0\1\2\0\5\6"),
    "a table that counts too much": _file(_head(a=_row(**TABLE | {"entries": 1 << 40}, streams=[["bytes", "raw", 8, 4, 4], BYTE])), bytes(5)),
    "damaged Huffman codes": _file(_head(a=_row(streams=[["bytes", "zlib", 8, 4, 4]])), b"\xff" * 4),
    "damaged LZMA": _file(_head(a=_row(streams=[["bytes", "lzma", 8, 4, 4]])), b"\xff" * 4),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.packed"
    path.write_bytes(HOSTILE[case])
    for load in (explorer.load_packed, explorer.load_exported):
        with pytest.raises(LoadError, match=r"model\.packed") as caught:
            load(path)
        assert len(str(caught.value)) < 500 and "\n" not in str(caught.value) and "malformed" not in str(caught.value)


def test_the_honest_row_loads() -> None:
    assert loads(_file(_head(a=_row()), b"\1\2\3\4"))[0]["a"].tolist() == [1, 2, 3, 4]


def test_every_truncation_and_every_flipped_byte_is_refused() -> None:
    torch.manual_seed(0)
    values = torch.randn(12, 12).round() * (torch.rand(12, 12) < 0.3)
    whole = dumps({"a": values, "b": torch.arange(5)}, {"note": "x"}, {})
    for end in range(len(whole)):
        with pytest.raises(LoadError):
            loads(whole[:end])
    for at in range(len(whole)):
        with pytest.raises(LoadError):
            loads(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_body_breaks_the_reader_whatever_its_checksum_says(data: st.DataObject) -> None:
    """Random bytes under an honest header with a right checksum: an answer or a LoadError, nothing else."""
    torch.manual_seed(1)
    values = torch.randn(6, 8).mul(3).round() * (torch.rand(6, 8) < 0.5)
    how = Slices((6, 8), 0), Grid(4, -7, np.ones(6, np.float32), np.zeros(6, np.int32))
    whole = dumps({"a": values}, {}, {"a": how} if data.draw(st.booleans()) else {})
    _, stored, size, _ = START.unpack_from(whole)
    body = bytearray(whole[START.size :])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(stored, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        loads(START.pack(MAGIC, stored, size, zlib.crc32(bytes(body))) + bytes(body))
    except LoadError:
        pass


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
