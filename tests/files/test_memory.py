"""Large files in a process of their own, whose memory is looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
STREAMED = """
from explorer.files.statistics import file_statistics
def look(path): file_statistics(path)
"""
MASKED = """
import explorer
from pathlib import Path
from explorer.evaluate.costs import counts
from explorer.files.save import save_weights
def look(path):
    explorer.file_statistics(path)  # loads the compiled code
    subject = explorer.load(path)
    subject.memo.budget = 16 << 20
    for sparsity, scope in ((0.5, "global"), (0.9, "layer")):
        recipe = explorer.Recipe().prune("*", sparsity=sparsity, scope=scope)
        plan = explorer.resolve(subject, recipe)
        found = counts(subject, plan)
        assert abs(found.sparsity - sparsity) < 1e-6 and set(plan.masks) == {layer.name for layer in subject.layers}
    out = Path(path).with_name("out.safetensors")
    save_weights(subject, recipe, out)
    assert out.stat().st_size > 0.95 * Path(path).stat().st_size
    out.unlink()
"""
RUN = """
import explorer, torch
from explorer.models import memory, replica
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import TensorDataset
replica.LARGE = 1 << 20
memory.SHARE = 0  # no unit's removal is tried, which takes two copies in float64
class Fit(nn.Module):
    def __init__(self, width, dtype):
        super().__init__()
        self.width, self.dtype = width, dtype
    def forward(self, x):
        return x.repeat(1, -(-self.width // x.shape[1]))[:, : self.width].to(self.dtype)
def look(path):
    explorer.file_statistics(path)
    tensors = [one for one in load_file(path).values() if one.ndim == 2]  # mapped
    with torch.device("meta"):
        layers = [nn.Linear(*one.shape[::-1], bias=False, dtype=one.dtype) for one in tensors]
    module = nn.Sequential(*[one for layer in layers for one in (Fit(layer.in_features, layer.weight.dtype), layer)])
    module.load_state_dict({f"{2 * i + 1}.weight": one for i, one in enumerate(tensors)}, assign=True)
    data = TensorDataset(torch.randn(8, 64), torch.randint(0, len(tensors[-1]), (8,)))
    subject = explorer.Subject(module.eval(), explorer.Task.classification(validation=data))
    subject.memo.budget = 16 << 20
    report = explorer.evaluate(subject, explorer.Recipe().prune("*", sparsity=0.5, scope="global"))
    assert abs(report.sparsity - 0.5) < 1e-6 and report.metrics["loss"] > 0
"""
MEASURE = """
import resource, sys
look(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
look(sys.argv[2])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024))
"""


def growth(what: str, path: Path, tmp_path: Path) -> int:
    """Bytes that work on a file adds to the peak of a process that has done the same with a small one."""
    small = tmp_path / "small.safetensors"
    save_file({"a.weight": torch.randn(40, 50, dtype=torch.bfloat16), "b.weight": torch.randn(20, 50)}, small)
    ran = subprocess.run(
        [sys.executable, "-c", what + MEASURE, str(small), str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.safetensors"
    tensor = torch.randn(6_000_000, generator=torch.Generator().manual_seed(0)).bfloat16().reshape(3000, 2000)
    save_file({f"{i}.weight": tensor * (i + 1) for i in range(12)}, path)
    return path


def test_streaming_takes_the_same_memory_for_any_file(large: Path, tmp_path: Path) -> None:
    assert large.stat().st_size > 140e6
    assert growth(STREAMED, large, tmp_path) < 100e6


@pytest.mark.slow
def test_a_mapped_model_is_pruned_and_saved_in_the_memory_of_one_copy(large: Path, tmp_path: Path) -> None:
    """The mapped pages of the file count, though the system may take them back; beside them there are masks of a bit, and one layer."""
    assert growth(MASKED, large, tmp_path) < 1.15 * large.stat().st_size + 80e6


@pytest.mark.slow
def test_two_gigabytes(tmp_path: Path) -> None:
    """1.0 billion parameters in bfloat16, looked at, pruned and saved, and run as a masked model."""
    from benchmarks.stream import make

    size = make(tmp_path / "large.safetensors", 2_000_000_000, "bf16")
    assert growth(STREAMED, tmp_path / "large.safetensors", tmp_path) < 500e6
    assert growth(MASKED, tmp_path / "large.safetensors", tmp_path) < 1.15 * size + 80e6
    assert growth(RUN, tmp_path / "large.safetensors", tmp_path) < 1.25 * size
