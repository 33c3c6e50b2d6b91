"""Models that answer with several values by name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.models.subject import Subject
from tests.contract.nets import classification, randomize


class Named(nn.Module):
    """As models of libraries do: what else is asked for stands in front of the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = torch.relu(self.first(x))
        return {"hidden": h, "logits": self.last(h)}


@pytest.mark.parametrize("file", ["onnx", "onnx-int8", "onnx-int4"])
def test_outputs_keep_their_names_and_the_readme_reads_the_logits(
    file: str, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(randomize(Named()).to(device), classification((6,), n=200), "named")
    bundle = explorer.export(subject, explorer.Recipe().prune("*", sparsity=0.5), tmp_path / "out", formats=[file], device=device)
    (name,) = [one for one in bundle.files if one.endswith(".onnx")]
    session = onnxruntime.InferenceSession((bundle.folder / name).read_bytes())
    shapes = {one.name: one.shape[1] for one in session.get_outputs()}
    assert shapes == {"hidden": 8, "logits": 3}
    code = re.search(r"```python\n(.*?)```", (bundle.folder / "README.md").read_text(encoding="utf-8"), re.S)
    assert code
    monkeypatch.chdir(bundle.folder)
    seen: dict = {}
    exec(compile(code[1], "README.md", "exec"), seen)  # our own text, just written
    assert np.asarray(seen["outputs"]).shape == (2, 3)


def test_a_name_that_the_graph_has_already_is_not_given_twice(tmp_path: Path, device: str) -> None:
    class Clashing(Named):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            found = super().forward(x)
            return {"linear": 2 * found["hidden"], "logits": found["logits"]}

    subject = Subject(randomize(Clashing()).to(device), classification((6,)), "clashing")
    bundle = explorer.export(subject, explorer.Recipe(), tmp_path / "out", formats=["onnx"], device=device)
    session = onnxruntime.InferenceSession((bundle.folder / "model.onnx").read_bytes())
    assert [one.name for one in session.get_outputs()] == ["output_1", "logits"]
