"""What figures are made of, counted by compiled code, against NumPy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from explorer.evaluate.metrics import tallies


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_moments_are_numpys(n: int) -> None:
    random = np.random.default_rng(n)
    before, after = (random.standard_normal(n).astype(np.float32) * 10 + 100 for _ in range(2))
    for values, found in ((after, tallies.moments(after)), (after.astype(np.float64) - before, tallies.moments(after, before))):
        exact = values.astype(np.float64)
        assert found == pytest.approx((exact.mean(), exact.std(ddof=1) if n > 1 else 0.0), rel=1e-12, abs=1e-12)


def test_moments_of_what_has_none() -> None:
    none = np.zeros(0, np.float32)
    assert all(map(math.isnan, tallies.moments(none))) and all(map(math.isnan, tallies.moments(none, none)))
    centre, deviation = tallies.moments(np.array([1, np.inf], np.float32))
    assert centre == math.inf and math.isnan(deviation)
    assert all(map(math.isnan, tallies.moments(np.array([1, np.nan], np.float32))))


@pytest.mark.parametrize(("n", "classes"), [(1, 3), (50, 2), (500, 10), (40, 64)])
def test_counts_and_macro_scores_are_scikit_learns(n: int, classes: int) -> None:
    random = np.random.default_rng(0)
    target, before, after = (random.integers(0, classes, n) for _ in range(3))
    counts = np.zeros((classes, classes), np.int64)
    tallies.confusion_counts(target, after, counts)
    assert np.array_equal(counts, reference.confusion_matrix(target, after, labels=range(classes)))
    expected = reference.precision_recall_fscore_support(target, after, average="macro", zero_division=0)[:3]
    hits, *macro = tallies.macro(counts)
    assert hits == (target == after).sum() and macro == pytest.approx(expected)
    assert tallies.bounds(target) == (target.min(), target.max())
    was, now = before == target, after == target
    assert tallies.agreement(target, before, after) == (was.sum(), now.sum(), (was & now).sum())


def test_of_nothing() -> None:
    none = np.zeros(0, np.int64)
    assert tallies.bounds(none) == (0, 0) and tallies.agreement(none, none, none) == (0, 0, 0)
    assert tallies.macro(np.zeros((3, 3), np.int64)) == (0, 0.0, 0.0, 0.0)
