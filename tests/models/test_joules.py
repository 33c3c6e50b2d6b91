"""Energy counters, with files and a library of our own in place of a machine's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.models import joules
from explorer.models.joules import Meter, Nvml, Rapl, counter

CPU = torch.device("cpu")


def zone(root: Path, name: str, kind: str, now: int, most: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir()
    for file, value in (("name", kind), ("energy_uj", now), ("max_energy_range_uj", most)):
        (folder / file).write_text(f"{value}\n", encoding="ascii")
    return folder


def test_packages_are_summed_and_a_counter_that_starts_anew_goes_on(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 100_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 800_000)  # a part of the first
    zone(tmp_path, "intel-rapl:2", "psys", 5)  # the whole machine
    found = counter(CPU, tmp_path)
    assert isinstance(found, Rapl) and found.joules() == 0.0
    (first / "energy_uj").write_text("200000", encoding="ascii")  # 100,000 to its end, and 200,000 more
    (second / "energy_uj").write_text("600000", encoding="ascii")
    assert found.joules() == pytest.approx(0.8) and found.joules() == pytest.approx(0.8)
    (first / "energy_uj").unlink()
    assert found.joules() is None


def test_without_a_counter_or_the_right_to_read_it_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert counter(CPU, tmp_path / "nowhere") is None and counter(torch.device("mps"), tmp_path) is None
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    monkeypatch.setattr(joules, "_number", lambda file: (_ for _ in ()).throw(PermissionError()))
    assert counter(CPU, tmp_path) is None
    meter = Meter(None)
    meter.start()
    meter.stop()
    assert meter.joules is None and meter.source == ""


class FakeNvml:
    NVMLError = ValueError

    def __init__(self, uuid: str) -> None:
        self.uuid, self.millijoules = uuid, 7000

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        if name != self.uuid:
            raise ValueError(name)
        return name

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return self.millijoules


def test_a_gpu_is_found_by_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml("GPU-abc")
    monkeypatch.setattr(joules, "library", lambda: fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: type("P", (), {"uuid": "abc"}))
    found = counter(torch.device("cuda", 1))
    assert isinstance(found, Nvml) and found.joules() == 7.0
    fake.uuid = "GPU-other"
    assert counter(torch.device("cuda", 1)) is None


def test_a_meter_counts_an_interval_and_reads_now_and_then() -> None:
    state: dict[str, Any] = {"now": 0.0, "joules": 100.0, "reads": 0}

    class Fake:
        source = "a counter of our own"

        def joules(self) -> float | None:
            state["reads"] += 1
            return state["joules"]

    meter = Meter(Fake(), lambda: state["now"])
    meter.start()
    for second in range(1, 62):
        state["now"], state["joules"] = float(second), 100.0 + 2 * second
        meter.tick()
    assert state["reads"] == 3 and meter.joules == 120.0  # at 0, 30 and 60 s
    meter.stop()
    assert meter.joules == 122.0 and meter.source == "a counter of our own"
    meter.earlier = 1000.0
    assert meter.joules == 1122.0
    meter.earlier = None  # what it goes on with was not measured
    assert meter.joules is None and meter.source == ""
    meter.earlier, state["joules"] = 0.0, None
    meter.stop()
    assert meter.joules is None
