"""Bike sharing in Washington, D.C., 2011: 8,645 hours with date, weather and the number of rented bikes.

Fanaee-T, Gama: Event labeling combining ensemble detectors and background knowledge, Progress in Artificial
Intelligence 2, 2013, https://doi.org/10.1007/s13748-013-0040-3, in the form of ISLP. CC BY 4.0, see
data/bikeshare.NOTICE.txt. Left out: `casual` and `registered`, which add up to the target, and `day`, the day
of the year. Splits are random hours, so every test hour has training hours of the same day.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sample_models.datasets.base import FOLDER, Data, Split, fractions, stratified_split

CATEGORIES = ("season", "mnth", "hr", "weekday", "weathersit")  # one column a value seen in training
FLAGS = ("holiday", "workingday")  # 0 or 1 as they are
NUMBERS = ("temp", "atemp", "hum", "windspeed")  # standardized
TARGET = "bikers"
SOURCE = "Bike Sharing (Fanaee-T, Gama 2013), UCI Machine Learning Repository, as in ISLP 0.6.0"
LICENCE = "CC BY 4.0"
SEED = 0

Row = dict[str, str]


@dataclass(frozen=True)
class Encoder:
    """What was learned from the training rows: the values of each category, mean and deviation of each number."""

    values: dict[str, list[str]]
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, rows: Sequence[Row]) -> Encoder:
        """Learn from the training rows; hours and the like in numeric order, months as they appear in the year."""
        numbers = np.array([[float(row[key]) for key in NUMBERS] for row in rows])
        seen = {key: dict.fromkeys(row[key] for row in rows) for key in CATEGORIES}
        values = {key: sorted(seen[key], key=lambda value: int(value) if value.isdigit() else 0) for key in CATEGORIES}
        return cls(values, numbers.mean(0), numbers.std(0))

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the feature names, one a column."""
        return (*(f"{key}={value}" for key in CATEGORIES for value in self.values[key]), *FLAGS, *NUMBERS)

    def transform(self, rows: Sequence[Row]) -> Tensor:
        """Return features (N, F) float32; a category not seen in training is all zeros."""
        onehot = [[float(row[key] == v) for key in CATEGORIES for v in self.values[key]] for row in rows]
        flags = [[float(row[key]) for key in FLAGS] for row in rows]
        numbers = (np.array([[float(row[key]) for key in NUMBERS] for row in rows]) - self.mean) / self.std
        return torch.from_numpy(np.hstack([onehot, flags, numbers]).astype(np.float32))


def decode(features: Tensor, encoder: Encoder) -> dict[str, object]:
    """Return the row behind one sample's features (F,), in the file's own units."""
    named = dict(zip(encoder.labels, features.tolist(), strict=True))
    row: dict[str, object] = {}
    for key in CATEGORIES:
        row[key] = next((v for v in encoder.values[key] if named[f"{key}={v}"] > 0.5), None)
    row |= {key: int(named[key]) for key in FLAGS}
    numbers = np.array([named[key] for key in NUMBERS]) * encoder.std + encoder.mean
    return row | {key: round(float(value), 4) for key, value in zip(NUMBERS, numbers, strict=True)}


def load() -> Data:
    """Return 70 / 15 / 15 % of the hours, stratified by the target's deciles: x (F,), y (1,), float32."""
    with (FOLDER / "bikeshare.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    bikers = np.array([float(row[TARGET]) for row in rows], dtype=np.float32)
    deciles = np.digitize(bikers, np.quantile(bikers, np.arange(1, 10) / 10))
    parts = stratified_split(deciles, fractions(len(rows), (0.70, 0.15, 0.15)), SEED)
    encoder = Encoder.fit([rows[i] for i in parts[0]])
    splits = {
        name: Split(encoder.transform([rows[i] for i in part]), torch.from_numpy(bikers[part]).unsqueeze(1))
        for name, part in zip(("train", "validation", "test"), parts, strict=True)
    }
    return Data(splits, "table", SOURCE, LICENCE, labels=encoder.labels, decode=partial(decode, encoder=encoder))
