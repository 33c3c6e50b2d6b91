"""Energy of one sample, estimated from a published table: multiply-accumulates by precision, and memory traffic.

Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014, figure 1.1.9, doi
10.1109/ISSCC.2014.6757323: 45 nm, 0.9 V. A real chip of today needs less and differs in its ratios; the table says what
matters: a read from DRAM costs hundreds of multiplications.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..compress.plan import Plan
from ..core.explanation import Energy
from ..evaluate.costs import counts
from ..evaluate.macs import count
from ..models.subject import Subject
from .roofline import traffic

SOURCE = "Horowitz, ISSCC 2014, figure 1.1.9, doi 10.1109/ISSCC.2014.6757323 (45 nm, 0.9 V)"
# picojoules of one operation
TABLE: Mapping[str, float] = {
    "int8 add": 0.03,
    "int32 add": 0.1,
    "fp16 add": 0.4,
    "fp32 add": 0.9,
    "int8 multiply": 0.2,
    "int32 multiply": 3.1,
    "fp16 multiply": 1.1,
    "fp32 multiply": 3.7,
    "SRAM 8 kB, 64 bits": 10.0,
    "SRAM 32 kB, 64 bits": 20.0,
    "SRAM 1 MB, 64 bits": 100.0,
    "DRAM, 64 bits, least": 1300.0,
    "DRAM, 64 bits, most": 2600.0,
}
MAC = {"fp32": TABLE["fp32 multiply"] + TABLE["fp32 add"], "int8": TABLE["int8 multiply"] + TABLE["int32 add"]}
WORD = 8  # bytes of a memory access


def estimate(subject: Subject, plan: Plan) -> Energy | None:
    """Of one sample at batch 1; None where multiply-accumulates cannot be counted.

    Products of a layer whose weights and activations are at most 8 bits are int8 with int32 sums, all others fp32 (so are
    those of two activations, in attention); zeros are multiplied like any number. Weights are read once from DRAM in their counted bytes; activations are written to and
    read from 1 MB of SRAM, one byte each where they are rounded, else four.
    """
    macs = count(subject, plan.dropped)
    if macs.total is None:
        return None
    seen = counts(subject, plan)
    integer = 0
    owners: dict[str, list[str]] = {}
    for name in seen.layers:
        owners.setdefault(name.rpartition(".")[0], []).append(name)
    for owner, names in owners.items():
        if all(_integer(plan, name) for name in names):
            integer += macs.modules.get(owner, 0) - macs.between.get(owner, 0)
    moved = sum(
        one.inputs // (4 if _integer_module(plan, owners, name) else 1) + one.outputs
        for name, one in traffic(subject, plan).items()
    )
    dram = [seen.bytes / WORD * TABLE[f"DRAM, 64 bits, {end}"] * 1e-12 for end in ("least", "most")]
    parts = {
        "multiply-accumulates, fp32": (macs.total - integer) * MAC["fp32"] * 1e-12,
        "multiply-accumulates, int8": integer * MAC["int8"] * 1e-12,
        "weights from DRAM": sum(dram) / 2,
        "activations in SRAM": moved / WORD * TABLE["SRAM 1 MB, 64 bits"] * 1e-12,
    }
    total = sum(parts.values())
    reach = (dram[1] - dram[0]) / 2
    return Energy("estimated", total, total - reach, total + reach, parts, SOURCE, "45 nm, 0.9 V")


def _integer(plan: Plan, name: str) -> bool:
    codes, inputs = plan.codes.get(name), plan.inputs.get(name)
    return (
        codes is not None
        and inputs is not None
        and codes.bits <= 8
        and inputs.bits <= 8
        and codes.scheme in ("symmetric", "affine")
    )


def _integer_module(plan: Plan, owners: Mapping[str, list[str]], module: str) -> bool:
    return bool(owners.get(module)) and all(_integer(plan, name) for name in owners[module])
