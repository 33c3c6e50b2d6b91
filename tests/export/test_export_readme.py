"""How a bundle says that its weights are loaded, run as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import explorer


class Tied(nn.Module):
    """One table for reading and for writing, and a constant that no state dict holds."""

    def __init__(self, branch: bool = False) -> None:
        super().__init__()
        self.table, self.head, self.branch = nn.Embedding(9, 6), nn.Linear(6, 9), branch
        self.head.weight = self.table.weight
        self.register_buffer("place", torch.randn(4, 6), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.table(x) + self.place
        if self.branch and h.sum() > 1e9:
            h = -h
        return self.head(h)


@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("file", ["safetensors", "packed"])
def test_weights_load_as_the_readme_says(
    file: str, branch: bool, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    data = TensorDataset(torch.randint(0, 9, (8, 4)), torch.randint(0, 9, (8, 4)))
    subject = explorer.Subject(Tied(branch).to(device), explorer.Task.language_model(validation=data), "tied")
    recipe = explorer.Recipe().prune("*", sparsity=0.5)
    bundle = explorer.export(subject, recipe, tmp_path / "out", formats=[file], device=device)
    assert any("weights only" in note for note in bundle.notes) == branch
    text = (bundle.folder / "README.md").read_text(encoding="utf-8")
    code = text.partition("## Load it")[2].partition("```python\n")[2].partition("```")[0]
    assert ("load_exported" in code) != branch
    monkeypatch.chdir(bundle.folder)
    seen: dict = {"your_module": Tied(branch)}
    exec(compile(code.replace("# your_module", "your_module"), "README.md", "exec"), seen)  # our own text, just written
    expected = explorer.compress(subject, recipe).cpu()
    seen |= {} if "your_module" in code else {"your_module": None}
    found = [module for name in ("module", "your_module") if (module := seen.get(name)) is not None]
    assert len(found) == (1 if branch or file == "packed" else 2)
    for module in found:
        assert torch.equal(module.get_parameter("table.weight"), expected.get_parameter("table.weight"))
        assert module.head.weight is module.table.weight
