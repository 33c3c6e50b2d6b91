"""Which of the batches that were measured is taken."""

from __future__ import annotations

import pytest

from explorer.evaluate.tune import _short

MS = 1e-3


@pytest.mark.parametrize(
    ("best", "taken"),
    [
        ({32: 0.10 * MS, 64: 0.09 * MS, 128: 0.08 * MS}, 128),  # all end soon: the fastest
        ({32: 0.60 * MS, 64: 0.58 * MS, 128: 0.57 * MS}, 64),  # 73 ms for 2 %: whoever moves the handle would wait
        ({32: 0.90 * MS, 64: 0.80 * MS, 128: 0.57 * MS}, 128),  # to end sooner would cost too much
        ({32: 9.10 * MS, 64: 9.00 * MS, 128: 8.90 * MS}, 32),  # none is short
        ({32: 9.10 * MS, 64: 9.00 * MS, 128: float("inf")}, 32),  # the device has no memory for one
        ({8: float("inf"), 32: float("inf")}, 8),
    ],
)
def test_a_batch_ends_soon_where_that_costs_little(best: dict[int, float], taken: int) -> None:
    assert _short(best, False) == taken


@pytest.mark.parametrize(
    ("best", "taken"),
    [
        ({32: 0.49 * MS, 64: 0.50 * MS, 128: 0.50 * MS}, 64),  # 64 ms would be long
        ({32: 0.47 * MS, 64: 0.50 * MS, 128: 0.50 * MS}, 32),  # 6 % are no longer about as fast
        ({32: 0.07 * MS, 64: 0.07 * MS, 128: 0.07 * MS, 256: float("inf")}, 128),
        ({32: 9.10 * MS, 64: 9.00 * MS, 128: 8.90 * MS}, 32),
    ],
)
def test_steps_are_taken_in_the_largest_batch_that_ends_soon(best: dict[int, float], taken: int) -> None:
    assert _short(best, True) == taken
