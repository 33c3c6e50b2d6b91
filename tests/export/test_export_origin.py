"""How an export says it was made, and what it holds where nothing was pruned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import TensorDataset

import explorer
from explorer.core.recipe import Recipe


def made(text: str) -> str:
    """The code below "How it was made"."""
    return text.partition("## How it was made")[2].partition("```python\n")[2].partition("```")[0]


def test_of_a_file_with_data_it_names_the_task_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    linear = torch.nn.Linear(3, 2)
    torch.export.save(torch.export.export(linear, (torch.randn(2, 3),), dynamic_shapes=({0: torch.export.Dim("n")},)), tmp_path / "mine.pt2")
    data = TensorDataset(torch.randn(8, 3), torch.arange(8) % 2)
    subject = explorer.load(tmp_path / "mine.pt2", explorer.Task.classification(validation=data, test=data))
    bundle = explorer.export(subject, Recipe().prune("weight", sparsity=0.5), tmp_path / "out", device=device)
    code = made((bundle.folder / "README.md").read_text(encoding="utf-8"))
    assert "subject = explorer.load('mine.pt2', task)  # task: your explorer.Task (classification), with the data" in code
    monkeypatch.chdir(tmp_path)
    (bundle.folder).rename(tmp_path / "first")
    exec(compile(code, "README.md", "exec"), {"task": subject.task})  # our own text, just written
    one, two = (load_file(tmp_path / folder / "model.safetensors") for folder in ("first", "out"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_without_pruning_there_are_no_masks_and_nothing_is_said_of_them(tmp_path: Path, subject_of, device: str) -> None:
    subject = subject_of("fashion-mlp")
    bundle = explorer.export(subject, Recipe().quantize("*", bits=8), tmp_path / "out", device=device)
    text = (bundle.folder / "README.md").read_text(encoding="utf-8")
    assert "masks.safetensors" not in bundle.files and not (bundle.folder / "masks.safetensors").exists() and "masks.safetensors" not in text
    assert "## How it was made" in text and 'explorer.load("fashion-mlp")' in text
