"""What a recovery took: in the history, in every Report of what came of it, and in the bundle that leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import explorer
from explorer.core.recipe import Recipe
from explorer.core.training import Step, cost
from explorer.recover import loop, recalibrate
from explorer.recover.finetune import finetune, train
from explorer.recover.loop import Training
from explorer.recover.settings import Settings
from tests.recover.small import QUICK, RECIPE, small


class FiveEach:
    """A counter that gives 5 J a reading; what it counted before is somebody else's."""

    source = "a counter of our own"

    def __init__(self) -> None:
        self.total = 1000.0

    def joules(self) -> float | None:
        self.total += 5
        return self.total


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def counter(device: torch.device) -> Any:
        asked.append(str(device))
        return FiveEach()

    for module in (loop, recalibrate):
        monkeypatch.setattr(module, "counter", counter)
    return asked


def test_energy_is_that_of_the_interval_and_goes_on_after_a_crash(
    counted: list[str], tmp_path: Path, device: str
) -> None:
    found = finetune(small(device), RECIPE, **QUICK, device=device)
    entry = found.history[-1]
    assert (entry.energy, entry.energy_source) == (5.0, "a counter of our own")  # read at its start and at its end
    assert counted[0].startswith(device)
    file = tmp_path / "checkpoint.pt"
    settings = Settings(**QUICK, checkpoint_seconds=0.0, log_every=1)
    for event in Training(small(device), RECIPE, settings, device=device, checkpoint=file).events():
        if isinstance(event, Step) and event.step == 4:
            break
    # read at its start and at three checkpoints: 15 J; then at a start, and after each of 15 steps or epochs, less the last
    again = train(Training(small(device), RECIPE, settings, device=device, checkpoint=file)).history[-1].energy
    assert again is not None and again > 15 + 5
    assert explorer.recalibrate(small(device), RECIPE, device=device).history[-1].energy == 5.0


def test_the_report_of_a_recovered_model_says_what_it_all_took(counted: list[str], device: str) -> None:
    subject = small(device)
    assert explorer.evaluate(subject).cost is None and explorer.evaluate(subject).to_dict()["history"] == []
    first = explorer.recalibrate(subject, RECIPE, device=device)
    found = finetune(first, first.recipe, **QUICK, device=device)
    for report in (explorer.evaluate(found), explorer.evaluate(found, Recipe(), split="test")):
        spent = report.cost
        assert spent is not None and report.history == found.history
        assert (spent.epochs, spent.steps, spent.energy) == (3, 18, 10.0) and spent.energy_source == FiveEach.source
        assert spent.seconds == sum(one.seconds for one in found.history) > 0
        assert spent.evaluations == sum(one.evaluations for one in found.history)
        plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert plain["cost"]["epochs"] == 3 and [one["what"] for one in plain["history"]] == [
            "recalibration",
            "fine-tuning",
        ]
        assert plain["history"][1]["settings"]["lr"] == 2e-2 and len(plain["history"][1]["curve"]) == 4
        assert Recipe.from_json(json.dumps(plain["history"][0]["recipe"])) == RECIPE
    more = cost(found.derive(found.module, Recipe()).history)  # trained elsewhere: nobody measured that
    assert more is not None and (more.epochs, more.energy, more.energy_source) == (3, None, "")


def test_a_bundle_tells_how_its_model_was_recovered(counted: list[str], tmp_path: Path, device: str) -> None:
    subject = small(device)
    first = explorer.recalibrate(subject, RECIPE, device=device)
    found = finetune(first, first.recipe, **QUICK, optimizer="sgd", augment=_same, device=device)
    explorer.export(found, found.recipe, tmp_path / "out", formats=["safetensors"], device=device)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    entries = found.history
    assert (
        "## Recovered" in text
        and "came from **small** in 2 step(s)" in text
        and "10 J, measured (a counter of our own)" in text
    )
    for one in entries:
        accuracies = " | ".join(f"{part['accuracy'].value:.4f}" for part in (one.before, one.damaged, one.after))
        assert (
            f"| {one.what} | {one.parent} | accuracy | {accuracies} | {one.epochs} | {one.seconds:.0f} | {one.evaluations} | 5 J |"
            in text
        )
        assert one.digest in text and all(f"- {note.text}" in text for note in one.notes)
        assert all(f"   {line}" in text for line in f"recipe = {one.recipe.to_python()}".splitlines())
    assert f"batch=16, optimizer='sgd', lr=0.02, seed=0, augment={{'name': '_same'}}, on {counted[0]}." in text
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["cost"]["epochs"] == 3 and [one["parent"] for one in report["history"]] == [
        "small",
        "small-recalibrated",
    ]
    assert all("history" not in one for one in (*report["splits"].values(), *report["original"].values()))
    explorer.export(subject, Recipe(), tmp_path / "plain", formats=["safetensors"], device=device)
    assert "## Recovered" not in (tmp_path / "plain" / "README.md").read_text(encoding="utf-8")


def _same(inputs: Any) -> Any:
    return inputs
