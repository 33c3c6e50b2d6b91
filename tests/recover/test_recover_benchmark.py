"""The benchmark reads the test split only where validation holds, and its table keeps the rows of other aims."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import recover
from benchmarks.recover import AIMS, Aim, Outcome, units

QUICK = Aim("vowels-lstm", (("half", units("lstm"), {"epochs": 1, "batch": 54, "lr": 3e-3}),), lost=1.0)


def test_test_is_read_once_and_not_where_validation_fails(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    read: list[str] = []
    judged = recover.judged
    monkeypatch.setattr(recover, "judged", lambda *how: read.append(how[3]) or judged(*how))
    good = recover.run("vowels-half", QUICK, device, 0.0)
    assert good.holds and read == ["accuracy"] and "| holds |" in good.row and "n = 220 |" in good.row
    for bad in (recover.run("vowels-half", QUICK, device, 2.0), recover.run("vowels-half", small(), device, 0.0)):
        assert not bad.holds and len(read) == 1 and "test not read" in bad.line and "| FAILS |" in bad.row


def small() -> Aim:
    return Aim("vowels-lstm", QUICK.stages, lost=1.0, smaller=1000.0)


def test_rows_are_put_in_order_and_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "recover.md"
    row = {name: Outcome(True, "", f"| `{name}` | holds |").row for name in AIMS}
    for name in ("vit-half", "mlp-40x"):
        recover.write(file, {name: row[name]})
    recover.write(file, {"vit-half": "| `vit-half` | FAILS |"})
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[-2:] == ["| `mlp-40x` | holds |", "| `vit-half` | FAILS |"]
    assert "\n".join(lines[:-2]) == recover.HEAD


def test_what_is_lost_of_a_metric_either_way() -> None:
    assert recover.lost(0.9, 0.88, False) == pytest.approx(0.02) and recover.lost(4.0, 4.4, True) == pytest.approx(0.1)
