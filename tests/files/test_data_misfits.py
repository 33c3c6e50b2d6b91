"""Data that are read well and do not fit: the message says what, where, and what would be accepted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import explorer
from explorer.core.errors import EvaluationError, TaskError
from explorer.files.data import Source, read_data
from explorer.files.limits import OWN
from explorer.files.mapping import Mapping, task_of
from explorer.files.sanity import check


def test_labels_and_samples_that_the_model_does_not_take_are_said(device: str) -> None:
    def look(inputs: np.ndarray, targets: np.ndarray) -> object:
        task = task_of(Source("arrays", {"x": inputs, "y": targets}), Mapping(("x",), "y", validation=0.2, test=0.2))
        return check(explorer.Subject(torch.nn.Linear(4, 3), task), device)

    x, y = np.random.default_rng(0).normal(size=(60, 4)).astype("f"), np.arange(60) % 3
    assert look(x, y).figure.n == 12
    for odd in range(30):  # in whichever split it comes to lie
        wrong = y.copy()
        wrong[odd] = 7
        with pytest.raises(
            TaskError, match=r"label of the \w+ samples is 7; the model has 3 outputs, so accepted: 0 to 2"
        ):
            look(x, wrong)
    with pytest.raises(EvaluationError, match="sample of this data is 3: choose the columns"):
        look(x[:, :3], y)


def test_a_table_says_what_made_it_odd(tmp_path: Path) -> None:
    rows = [f"{i / 7:.3f},{i},{'abc'[i % 3]}" for i in range(40)]

    def notes(header: str, lines: list[str]) -> list[str]:
        (tmp_path / "t.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
        return [str(note) for note in read_data(tmp_path / "t.csv", OWN).notes]

    assert notes("a,b,label", rows) == []
    assert notes("a,b,label", [*rows[:7], "hello,7,a", *rows[8:]]) == [
        "column 'a' is read as text: 'hello' in sample 8 is no number (1 such in all)"
    ]
    numbers = [row.rsplit(",", 1)[0] for row in rows]
    assert "is the header missing?" in notes(numbers[0], numbers[1:])[0]
    assert "is the header missing?" in notes("0.5,0.5", numbers)[0]
    assert notes("2020,b", numbers) == []
