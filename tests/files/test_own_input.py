"""An input of one's own reaches the model as the data does: in the same shape and on the same scale."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import explorer
from explorer.core.errors import TaskError
from explorer.evaluate.answers import accepted, answers, from_array
from explorer.files.data import Source, read_data
from explorer.files.limits import OWN
from explorer.files.mapping import Mapping, task_of
from tests.contract.nets import MLP

NORMALIZED = dict(scale=1 / 255, mean=(0.3,), std=(0.2,))


def subject(source: Source, mapping: Mapping, device: str) -> explorer.Subject:
    return explorer.Subject(MLP().to(device), task_of(source, mapping), "mine")


def same(mine: explorer.Subject, own: np.ndarray) -> None:
    """One of the validation samples, given as a person has it, is that sample."""
    data = mine.task.dataset("validation")
    got = from_array(mine, own)
    assert min(float((got - data[i][0]).abs().max()) for i in range(len(data))) < 1e-5


def test_pictures_of_folders_and_of_arrays(tmp_path: Path, device: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, 5, 6), dtype=np.uint8)
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
        for i, one in enumerate(pictures):
            buffer = io.BytesIO()
            Image.fromarray(one).save(buffer, "PNG")
            file.writestr(f"{'ab'[i % 2]}/{i}.png", buffer.getvalue())
    folders = subject(read_data(tmp_path / "p.zip", OWN), Mapping(("image",), "class", shape=(1, 5, 6), validation=0.9, test=0.1, **NORMALIZED), device)
    y = np.array([0, 1, 0, 1])
    whole = subject(Source("arrays", {"x": pictures[:, None], "y": y}), Mapping(("x",), "y", validation=0.9, test=0.1, **NORMALIZED), device)
    ready = subject(Source("arrays", {"x": pictures[:, None] / 255, "y": y}), Mapping(("x",), "y", mean=(0.3,), std=(0.2,), validation=0.9, test=0.1), device)
    rated = explorer.Subject(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(30, 2)).to(device), whole.task, "rated")
    given = from_array(rated, pictures[1][None].astype("float32") / 255)
    assert len(answers(rated, explorer.Recipe(), given, device=device).before) == 2
    for mine in (folders, whole, ready):
        assert mine.task.display == "image" and len(mine.task.dataset("validation")) == 4
        same(mine, pictures[1][None].astype("float32") / 255)  # as the page has a picture: [channels, height, width] in [0, 1]


def test_rows_and_sequences(device: str) -> None:
    rng = np.random.default_rng(0)
    columns = {"x": rng.normal(50, 9, (4, 3)), "s": rng.normal(50, 9, (4, 5, 2)), "y": np.array([0, 1, 0, 1])}
    for name in ("x", "s"):
        mine = subject(Source("arrays", columns), Mapping((name,), "y", mean=(50.0,), std=(9.0,), validation=0.9, test=0.1), device)
        same(mine, columns[name][2].astype("float32"))
    short = from_array(mine, columns["s"][2][:3])  # as a file that is filled up with zeros before it is scaled
    assert short.shape == (5, 2) and torch.allclose(short[3:], torch.tensor(-50 / 9))


def test_what_is_not_accepted_is_told(device: str) -> None:
    data = [({"a": torch.zeros(2), "b": torch.zeros(3)}, 0)] * 3
    several = explorer.Subject(MLP().to(device), explorer.Task.classification(validation=data), "several")
    for ask in (lambda: accepted(several), lambda: from_array(several, np.zeros(5))):
        with pytest.raises(TaskError, match="2 tensors.*accepted: a sample of the validation split"):
            ask()
    sequences = explorer.load("vowels-lstm")
    assert accepted(sequences) == "≤ 29 × 12"
    with pytest.raises(TaskError, match="5 × 7; accepted: ≤ 29 × 12"):
        from_array(sequences, np.zeros((5, 7)))
    assert accepted(explorer.load("bikes-mlp")) == "57"
    with pytest.raises(TaskError, match="accepted: finite numbers"):
        from_array(sequences, np.full((29, 12), np.nan))
