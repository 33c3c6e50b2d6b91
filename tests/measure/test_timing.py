"""Variants take turns; a roof is measured once; layers lie under it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import explorer
from explorer.compress.plan import Plan
from explorer.core.errors import Cancelled
from explorer.core.explanation import Roofline
from explorer.evaluate.macs import count
from explorer.measure import machine
from explorer.measure.roofline import roofline, traffic
from explorer.measure.timing import LEAST, WARM, interleaved, quartiles


def test_variants_take_turns_and_every_other_round_goes_backwards() -> None:
    now, seen = [0.0], []

    def variant(name: str, seconds: float):
        def run() -> None:
            seen.append(name)
            now[0] += seconds

        return run

    times = interleaved([variant("a", 1.0), variant("b", 3.0), variant("c", 2.0)], 100.0, clock=lambda: now[0])
    order = "".join(seen[3 * WARM :])
    assert order.startswith("abccbaabccba") and {len(one) for one in times} == {len(order) // 3}
    assert [one.tolist() for one in times] == [[s] * len(times[0]) for s in (1.0, 3.0, 2.0)]
    assert now[0] >= 100 and len(times[0]) == max(LEAST, 17)
    seen.clear()
    assert len(interleaved([variant("a", 1e9)], 1.0, clock=lambda: now[0])[0]) == LEAST  # however slow


def test_quartiles_and_cancelling() -> None:
    assert quartiles(np.arange(1.0, 102)) == (51.0, 26.0, 76.0)
    with pytest.raises(Cancelled):
        interleaved([lambda: None], 1.0, cancel=lambda: True)


def test_traffic_of_a_layer_by_hand(small) -> None:
    found = traffic(small, Plan({}, {}), 32)
    assert (found["0"].weights, found["0"].inputs, found["0"].outputs) == (4 * (8 * 16 + 16), 4 * 32 * 8, 4 * 32 * 16)
    halved = explorer.resolve(small, explorer.Recipe().prune("0", sparsity=0.5, granularity="unit"))
    assert traffic(small, halved, 32)["2"].inputs == 4 * 32 * 8


def test_a_roofline_has_every_layer_before_and_after(small, device: str) -> None:
    machine._known.clear()
    plan = explorer.resolve(small, explorer.Recipe().prune("0", sparsity=0.5, granularity="unit"))
    found = roofline(small, plan, batch=16, device=device)
    assert [(one.layer, one.what) for one in found.points] == [
        ("0", "original"),
        ("2", "original"),
        ("0", "compressed"),
        ("2", "compressed"),
    ]
    for one in found.points:
        own = count(small, Plan({}, {}).dropped if one.what == "original" else plan.dropped).modules[one.layer]
        assert one.work == 2 * own * 16 and one.seconds > 0 and one.flops == one.work / one.seconds
        assert one.intensity == one.work / one.moved
    assert found.peak > 1e8 and found.bandwidth > 1e7 and found.threads == torch.get_num_threads() and found.device
    before = len(machine._known)
    machine.peaks(device)
    assert len(machine._known) == before == 1  # measured once
    with pytest.raises(Cancelled):
        roofline(small, plan, batch=2, cancel=lambda: True)


def test_the_bound_of_a_roof() -> None:
    roof = Roofline(100.0, 10.0, (), 1, "here")
    assert roof.ridge == 10 and roof.bound(5) == 50 and roof.bound(10) == 100 and roof.bound(1000) == 100


def test_a_probe_is_timed_at_least_once_however_busy_the_machine_is(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """A warm-up that takes all of the probe's time once left a bandwidth of 0 bytes a second."""
    monkeypatch.setattr(machine, "SECONDS", 0.0)
    calls: list[int] = []
    assert 0 < machine._best(lambda: calls.append(1), torch.device(device)) < float("inf")
    assert len(calls) == 2
