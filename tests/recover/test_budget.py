"""What fits a given time: more with more, never nothing, and the batch small enough for little data."""

from __future__ import annotations

import pytest

from explorer.recover import budget
from explorer.recover.budget import MOST, batch_of, within
from explorer.recover.settings import Settings
from tests.recover.small import RECIPE, small


def test_more_time_is_more_training_and_no_time_is_a_little(device: str) -> None:
    subject = small(device)
    digest = subject.digest
    plenty, expected = within(3600.0, subject, RECIPE, device=device)
    assert plenty.epochs == MOST and 0 < expected < 3600 and plenty.samples is None
    none, expected = within(0.0, subject, RECIPE, Settings(batch=16), device=device)
    assert none.epochs == 1 and none.samples is not None and none.samples >= 1 and expected > 0
    assert subject.digest == digest  # what was timed is thrown away


def test_epochs_are_what_fits(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves one second at every look: a step takes one, the judging of an epoch, too."""
    now = iter(range(10**6))
    monkeypatch.setattr(budget.time, "perf_counter", lambda: float(next(now)))
    settings, expected = within(61.0, small(device), RECIPE, Settings(batch=16, epochs=9), device=device)
    assert (
        settings.batch == 16 and settings.epochs == (61 - 1) // 8 and expected == settings.epochs * 8 + 1
    )  # 7 steps of 16, and one


@pytest.mark.parametrize(
    ("most", "samples", "batch"), [(128, 50_000, 128), (128, 270, 16), (128, 1024, 64), (8, 10, 8)]
)
def test_little_data_is_cut_into_smaller_batches(most: int, samples: int, batch: int) -> None:
    assert batch_of(most, samples) == batch
