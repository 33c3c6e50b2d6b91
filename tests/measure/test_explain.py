"""What explain says is what export writes, to the byte; and a sentence for each surprise."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import explorer
from explorer.core.errors import Cancelled, RecipeError
from explorer.core.explanation import ByteParts, Explanation, FileSize, Latency
from explorer.measure import energy
from explorer.measure.surprises import surprises

FORMATS = ("safetensors", "onnx", "onnx-int8", "onnx-int4", "packed")
RECIPE = explorer.Recipe().prune("*", sparsity=0.5).quantize("0", bits=4, granularity="channel")


@pytest.fixture(scope="module")
def seen(small, device: str) -> Explanation:
    told: list[tuple[int, int]] = []
    found = explorer.explain(
        small,
        RECIPE,
        formats=FORMATS,
        batches=(1, 8),
        seconds=0.01,
        device=device,
        progress=lambda *at: told.append(at),
    )
    assert told == sorted(told) and told[-1] == (1000, 1000)
    return found


def test_sizes_are_those_of_the_exported_files(small, seen: Explanation, tmp_path: Path) -> None:
    bundle = explorer.export(small, RECIPE, tmp_path / "out", formats=FORMATS)
    for one in seen.files:
        data = (bundle.folder / one.file).read_bytes()
        assert one.bytes == len(data) and not one.problem
        # the two entries of a safetensors header come in any order, which gzip notices
        assert abs(one.gzip - len(gzip.compress(data, 9, mtime=0))) <= (8 if one.format == "safetensors" else 0)
    original = explorer.export(small, explorer.Recipe(), tmp_path / "was", formats=["safetensors", "onnx"])
    assert seen.file("packed").before == original.files["model.safetensors"]
    assert seen.file("onnx-int8").before == original.files["model.onnx"]
    assert seen.file("onnx-int8").agreement >= 0.99 and seen.file("onnx").agreement is None
    assert seen.counted.total == explorer.evaluate(small, RECIPE).bytes
    assert seen.counted_before.total == explorer.evaluate(small).bytes and seen.macs == seen.macs_before == 192


def test_every_file_was_timed_beside_the_original(seen: Explanation, device: str) -> None:
    variants = {(one.what, one.format, one.engine, one.batch) for one in seen.latencies}
    for batch in (1, 8):
        assert ("original", "onnx", "ONNX Runtime", batch) in variants and (
            "original",
            "safetensors",
            "PyTorch",
            batch,
        ) in variants
        assert {f for w, f, _, b in variants if w == "compressed" and b == batch} == set(FORMATS)
    assert len({one.runs for one in seen.latencies if one.batch == 1}) == 1  # rounds
    for one in seen.latencies:
        assert 0 < one.low <= one.median <= one.high and one.threads == torch.get_num_threads() and one.device
    assert seen.latency("compressed", "packed", 8).engine == "PyTorch" and seen.latency("compressed", "pt2", 8) is None
    assert seen.energy[1].joules < seen.energy[0].joules and (device == "cuda" or seen.measured_energy is None)
    assert {one.what for one in seen.roofline.points} == {"original", "compressed"} and seen.to_dict()["files"][0][
        "bytes"
    ] > 0


def test_a_model_that_a_format_cannot_hold_has_a_problem_and_no_file(device: str) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 6, proj_size=3, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rnn(x)[0][:, -1]

    data = TensorDataset(torch.randn(8, 5, 4), torch.randint(0, 3, (8,)))
    subject = explorer.Subject(Wide().to(device), explorer.Task.classification(train=data, validation=data), "wide")
    found = explorer.explain(
        subject, formats=["onnx", "packed"], batches=(2,), seconds=0.01, roofline=False, device=device
    )
    assert (
        "projections" in found.file("onnx").problem and found.file("onnx").bytes == 0 and found.file("packed").bytes > 0
    )
    assert "no-file" in {one.code for one in found.surprises} and found.roofline is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"formats": ["zip"]},
        {"formats": []},
        {"formats": "onnx"},
        {"batches": ()},
        {"batches": (0,)},
        {"batches": (1.5,)},
        {"seconds": 0},
    ],
)
def test_bad_input_is_said(small, wrong: dict) -> None:
    with pytest.raises(RecipeError):
        explorer.explain(small, **wrong)


def test_cancelling(small) -> None:
    with pytest.raises(Cancelled):
        explorer.explain(small, formats=["packed"], cancel=lambda: True)


def times(what: str, format: str, batch: int, median: float, spread: float = 0.01) -> Latency:
    engine = "ONNX Runtime" if format.startswith("onnx") else "PyTorch"
    return Latency(what, format, engine, batch, median, median * (1 - spread), median * (1 + spread), 100, 1, "here")


def codes(
    subject, recipe: explorer.Recipe, latencies: tuple[Latency, ...] = (), files: tuple[FileSize, ...] = (), **changes
) -> dict[str, str]:
    """{code: text} of what is said about made-up figures."""
    from explorer.measure.parts import parts

    plan = explorer.resolve(subject, recipe)
    whole, layers = parts(subject, plan)
    found = Explanation(
        "small", "", whole, ByteParts(weights=848), layers, files, 192, 192, latencies, None, None, None, ()
    )
    return {one.code: one.text for one in surprises(subject, plan, replace(found, **changes))}


PLAIN = FileSize("onnx", "model.onnx", 1000, 400, 1000, 900)


def test_zeros_gain_nothing_in_dense_files_and_products(small) -> None:
    recipe = explorer.Recipe().prune("*", sparsity=0.9)
    same = (times("original", "onnx", 8, 1e-3), times("compressed", "onnx", 8, 0.99e-3))
    said = codes(small, recipe, same, (PLAIN,))
    assert (
        "90%" in said["zeros-not-smaller"]
        and "1,000" in said["zeros-not-smaller"]
        and "990 µs" in said["zeros-not-faster"]
    )
    faster = (times("original", "onnx", 8, 1e-3), times("compressed", "onnx", 8, 0.5e-3))
    said = codes(small, recipe, faster, (replace(PLAIN, bytes=100),))
    assert not {"zeros-not-smaller", "zeros-not-faster"} & set(said)
    assert "zeros-not-smaller" not in codes(small, explorer.Recipe().prune("*", sparsity=0.1), same, (PLAIN,))


def test_a_codebook_larger_than_its_savings(small) -> None:
    recipe = explorer.Recipe().quantize("2", bits=6, quantizer="kmeans-linear", granularity="channel")
    said = codes(small, recipe)
    assert "2.weight" in said["table-larger-than-savings"] and "no smaller" in said["table-larger-than-savings"]
    assert not {"table-larger-than-savings", "table-large"} & set(codes(small, explorer.Recipe().quantize("2", bits=4)))
    assert "table-large" in codes(small, explorer.Recipe().quantize("2", bits=2, granularity="channel"))


def test_few_zeros_do_not_pay_for_an_index(small) -> None:
    said = codes(small, explorer.Recipe().prune("0", sparsity=0.1).quantize("0", bits=4))
    assert "0.weight" in said["indices-cost-more"] and "10%" in said["indices-cost-more"]
    assert "indices-cost-more" not in codes(small, explorer.Recipe().prune("0", sparsity=0.8))


def test_batches_integers_and_noise(small) -> None:
    def pair(batch: int, plain: float, eight: float) -> tuple[Latency, ...]:
        return times("compressed", "onnx", batch, plain), times("compressed", "onnx-int8", batch, eight)

    said = codes(small, explorer.Recipe(), (*pair(1, 1e-4, 1e-4), *pair(64, 1e-2, 4e-3)))
    assert "2.50x" in said["batch-too-small"] and "int8-not-faster" not in said
    said = codes(small, explorer.Recipe(), (*pair(1, 1e-4, 2e-4), *pair(64, 1e-2, 2e-2)))
    assert "2.00x" in said["int8-not-faster"] and "batch-too-small" not in said
    assert not {"int8-not-faster", "batch-too-small"} & set(codes(small, explorer.Recipe(), pair(1, 1e-3, 4e-4)))
    said = codes(
        small, explorer.Recipe(), (times("original", "onnx", 1, 1e-5, 0.5), times("compressed", "onnx", 1, 1.4e-5, 0.5))
    )
    assert {"call-dominates", "spread-hides-it"} <= set(said)
    four = FileSize("onnx-int4", "model.int4.onnx", 200, 100, 1000, 900)
    both = (times("compressed", "onnx", 1, 1e-3), times("compressed", "onnx-int4", 1, 3e-3))
    assert "3.00 ms" in codes(small, explorer.Recipe(), both, (four,))["int4-not-faster"]
    late = (*both[:1], times("compressed", "onnx-int4", 1, 1e-3), times("compressed", "onnx", 64, 1e-2))
    late = (*late, times("compressed", "onnx-int4", 64, 2e-2))
    assert "batch of 64" in codes(small, explorer.Recipe(), late, (four,))["int4-not-faster"]
    # with rounded activations there is no fp32 file of the recipe: the original is what integers are compared with
    alone = (
        times("original", "onnx", 1, 1e-3),
        times("compressed", "onnx-int4", 1, 2e-3),
        times("compressed", "onnx-int8", 1, 3e-3),
    )
    said = codes(small, explorer.Recipe(), alone, (four,))
    assert "2.00 ms instead of 1.00 ms" in said["int4-not-faster"] and "3.00x" in said["int8-not-faster"]


def test_codebooks_of_channels_and_products_of_activations_stay_floats(small, device: str) -> None:
    eight = replace(PLAIN, format="onnx-int8", file="model.int8.onnx")
    book = explorer.Recipe().quantize("0", bits=3, quantizer="kmeans-linear", granularity="channel")
    book = book.quantize("2", bits=3, quantizer="kmeans-linear")
    said = codes(small, book, (), (eight,))
    assert "0.weight" in said["codebooks-in-floats"] and "2.weight" not in said["codebooks-in-floats"]
    assert "codebooks-in-floats" not in codes(small, book, (), (PLAIN,)) and "attention-in-floats" not in said
    assert "graph-larger-than-weights" not in codes(
        small, book, (), (eight,)
    )  # 1,000 bytes: 128 * 4 + 64 + 20 * 4, and a little
    apart = replace(book, rules=book.rules[1:])
    assert f"about {128 + 64 + 20 * 4} " not in str(codes(small, book, (), (replace(eight, bytes=2000),)))
    assert f"about {128 + 64 + 20 * 4}:" in codes(small, apart, (), (eight,))["graph-larger-than-weights"]

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))

    data = TensorDataset(torch.randn(32, 6, 8), torch.randint(0, 3, (32,)))
    subject = explorer.Subject(
        Attending().to(device), explorer.Task.classification(train=data, validation=data), "attending"
    )
    weights, between = 6 * 8 * 32 + 8 * 3, 2 * 6 * 6 * 8
    rounded = explorer.Recipe().quantize("*", bits=8).quantize("*", bits=8, what="activation")
    said = codes(subject, rounded, (), (PLAIN,))
    assert f"{between / (weights + between):.1%} of the" in said["attention-in-floats"]
    assert "attention-in-floats" not in codes(subject, explorer.Recipe(), (), (PLAIN,))
    assert "attention-in-floats" in codes(subject, explorer.Recipe(), (), (eight,))
    spent = energy.estimate(subject, explorer.resolve(subject, rounded))
    assert spent.parts["multiply-accumulates, int8"] == pytest.approx(weights * 0.3e-12)
    assert spent.parts["multiply-accumulates, fp32"] == pytest.approx(between * 4.6e-12)


def test_graphs_floats_and_removed_units(small) -> None:
    noted = replace(PLAIN, format="onnx-int8", bytes=2000, notes=("model.int8.onnx: stored as floats: a",))
    said = codes(small, explorer.Recipe(), (), (noted,))
    assert said["left-in-floats"] == noted.notes[0] and "graph" in said["graph-larger-than-weights"]
    slow = (times("original", "onnx", 8, 1e-3), times("compressed", "onnx", 8, 0.9e-3))
    assert "2.0x fewer" in codes(small, explorer.Recipe(), slow, macs=96)["macs-are-not-time"]
    fast = (times("original", "onnx", 8, 1e-3), times("compressed", "onnx", 8, 0.55e-3))
    assert "macs-are-not-time" not in codes(small, explorer.Recipe(), fast, macs=96)
