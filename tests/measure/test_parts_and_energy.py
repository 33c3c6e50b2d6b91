"""Counted bytes taken apart, and energy by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import explorer
from explorer.compress.plan import Plan
from explorer.core.explanation import ByteParts
from explorer.evaluate.costs import counts
from explorer.measure import energy, nvml
from explorer.measure.parts import parts

ORIGINAL = Plan({}, {})
RECIPES = {
    "original": explorer.Recipe(),
    "pruned": explorer.Recipe().prune("*", sparsity=0.9),
    "bits": explorer.Recipe().quantize("*", bits=4, granularity="channel"),
    "affine": explorer.Recipe().prune("0", sparsity=0.5).quantize("*", bits=5, scheme="affine"),
    "codebook": explorer.Recipe().prune("*", sparsity=0.6).quantize("*", bits=3, quantizer="kmeans-linear"),
    "units": explorer.Recipe().prune("0", sparsity=0.5, granularity="unit").quantize("*", bits=2),
    "activations": explorer.Recipe().quantize("*", bits=4).quantize("*", bits=8, what="activation"),
    "half": explorer.Recipe().quantize("*", bits=16, quantizer="fp16"),
}


@pytest.mark.parametrize("kind", RECIPES)
def test_parts_sum_to_the_counted_bytes(small, kind: str) -> None:
    plan = explorer.resolve(small, RECIPES[kind])
    whole, layers = parts(small, plan)
    seen = counts(small, plan)
    assert whole.total == seen.bytes
    assert {name: one.total for name, one in layers.items()} == {name: one.bytes for name, one in seen.layers.items()}
    assert all(min(one.weights, one.indices, one.scales, one.codebooks, one.rest) >= 0 for one in layers.values())


def test_parts_by_hand(small) -> None:
    whole, layers = parts(small, explorer.resolve(small, RECIPES["bits"]))
    assert layers["0.weight"] == ByteParts(8 * 16 // 2, 0, 16 * 4, 0, 0, "dense")
    assert layers["2.weight"] == ByteParts(16 * 4 // 2, 0, 4 * 4, 0, 0, "dense") and whole.rest == 4 * (16 + 4)
    whole, layers = parts(small, explorer.resolve(small, RECIPES["activations"]))
    assert whole.scales == 2 * 4 + 2 * 5 and sum(one.scales for one in layers.values()) == 2 * 4
    _, layers = parts(small, explorer.resolve(small, RECIPES["pruned"]))
    assert layers["0.weight"] == ByteParts(
        13 * 4, 128 // 8, 0, 0, 0, "bitmap"
    )  # 13 of 128 stay, a bit each to say which
    _, layers = parts(small, explorer.resolve(small, RECIPES["codebook"]))
    assert layers["0.weight"].codebooks > 0 and layers["0.weight"].scales == 0


def test_energy_by_hand(small) -> None:
    macs, weights = 8 * 16 + 16 * 4, 4 * (8 * 16 + 16 * 4 + 16 + 4)
    moved = 4 * (8 + 16 + 16 + 4)
    found = energy.estimate(small, ORIGINAL)
    assert found.parts == pytest.approx(
        {
            "multiply-accumulates, fp32": macs * 4.6e-12,
            "multiply-accumulates, int8": 0.0,
            "weights from DRAM": weights / 8 * 1950e-12,
            "activations in SRAM": moved / 8 * 100e-12,
        }
    )
    assert found.joules == pytest.approx(sum(found.parts.values())) and found.kind == "estimated"
    assert found.high - found.low == pytest.approx(weights / 8 * 1300e-12) and "Horowitz" in found.source


def test_integers_need_weights_and_activations_of_few_bits(small) -> None:
    bits = explorer.Recipe().quantize("*", bits=8)
    only = energy.estimate(small, explorer.resolve(small, bits))
    assert only.parts["multiply-accumulates, int8"] == 0  # weights alone: the products are floats
    both = energy.estimate(small, explorer.resolve(small, bits.quantize("*", bits=8, what="activation")))
    assert both.parts["multiply-accumulates, fp32"] == 0
    assert both.parts["multiply-accumulates, int8"] == pytest.approx((8 * 16 + 16 * 4) * 0.3e-12)
    assert both.parts["activations in SRAM"] < only.parts["activations in SRAM"]
    scales = both.parts["weights from DRAM"] - only.parts["weights from DRAM"]
    assert scales == pytest.approx(2 * 5 / 8 * 1950e-12)  # two activations have a scale and a zero point each
    assert both.joules - scales < only.joules
    book = bits.quantize("0", bits=4, quantizer="kmeans-linear").quantize("*", bits=8, what="activation")
    codebook = energy.estimate(small, explorer.resolve(small, book))
    assert codebook.parts["multiply-accumulates, fp32"] == pytest.approx(
        8 * 16 * 4.6e-12
    )  # what a table holds are floats


class FakeNvml(SimpleNamespace):
    """10 W of idling, and 2 J for each run of 0.1 s."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__(now=0.0, joules=5.0, calls=0)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "a GPU"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return round(1000 * self.joules)

    def rest(self, seconds: float) -> None:
        self.now, self.joules = self.now + seconds, self.joules + 10 * seconds

    def run(self) -> None:
        self.calls += 1
        self.rest(0.1)
        self.joules += 2


def test_a_gpus_counter_less_idling() -> None:
    fake = FakeNvml()
    found = nvml.measure(fake.run, 8, nvml=fake, clock=lambda: fake.now, rest=fake.rest)
    assert found is not None and found.kind == "measured" and found.device == "a GPU"
    assert found.joules == pytest.approx(2 / 8, rel=1e-2) and found.low <= found.joules <= found.high
    assert 1 + 5 * 20 <= fake.calls <= 1 + 5 * 21  # warm, then 2 s five times


def test_without_a_counter_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml()

    def refuse(*_: object) -> int:
        raise fake.NVMLError("not supported")

    fake.nvmlDeviceGetTotalEnergyConsumption = refuse
    assert nvml.measure(fake.run, 1, nvml=fake, clock=lambda: fake.now, rest=fake.rest) is None
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert nvml.library() is None and nvml.measure(fake.run, 1) is None
