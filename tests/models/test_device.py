"""Where tensors go, and in which type."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from explorer.models.device import pick, place, precise, threads
from explorer.models.replica import Replica
from tests.contract.nets import tiny


def test_floats_are_cast_and_integers_are_not(device: str) -> None:
    assert place(torch.ones(2), device, torch.bfloat16).dtype == torch.bfloat16
    assert place(torch.ones(2, dtype=torch.int32), device, torch.bfloat16).dtype == torch.int32
    there = torch.ones(2).to(device)
    assert place(there, device) is there and place(there, device, torch.float32) is there
    assert place(there, "cpu", torch.float64).dtype == torch.float64


class Recorder:
    """In place of a tensor: what it is asked to become, in order."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.asked = dtype, []

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def to(self, what: object) -> Recorder:
        self.asked.append(str(what))
        return self


@pytest.mark.parametrize(
    ("dtype", "device", "wanted", "asked"),
    [
        (torch.float64, "mps", None, ["torch.float32", "mps"]),
        (torch.float32, "mps", torch.float64, ["torch.float32", "mps"]),
        (torch.int64, "mps", torch.float64, ["torch.int64", "mps"]),
        (torch.float32, "cpu", torch.float64, ["cpu", "torch.float64"]),  # it may come from MPS
        (torch.float64, "cuda", None, ["cuda", "torch.float64"]),
    ],
)
def test_mps_is_never_asked_for_float64(
    dtype: torch.dtype, device: str, wanted: torch.dtype | None, asked: list[str]
) -> None:
    tensor = Recorder(dtype)
    place(tensor, device, wanted)  # type: ignore[arg-type]
    assert tensor.asked == asked
    assert precise(device).type == ("cpu" if device == "mps" else device)


def test_laying_out_a_copys_weights_anew_is_no_write_to_the_original(device: str) -> None:
    """As cuDNN does for recurrent layers on a GPU; what was cached for the original stays valid."""
    subject = tiny(device=device)
    before = subject.version
    copied = subject.copy()
    replica = Replica(subject.module, device)
    with torch.no_grad():
        for module in (copied, replica.module):
            module.fc[0].weight.set_(torch.zeros(8, 6, device=device))
    assert subject.version == before and bool(subject.module.fc[0].weight.any())
    with torch.no_grad():
        subject.module.fc[0].weight.mul_(2)
    assert subject.version != before


def test_a_double_precision_model_runs_on_every_device(device: str) -> None:
    module = nn.Linear(3, 2).double()
    replica = Replica(module, device)
    found = replica.module(place(torch.ones(1, 3, dtype=torch.float64), device))
    assert torch.allclose(found.cpu().double(), module(torch.ones(1, 3, dtype=torch.float64)), atol=1e-6)


@pytest.mark.parametrize(("gpus", "names"), [(1, ["cuda", "cuda", "cuda"]), (2, ["cuda:0", "cuda:1", "cuda:1"])])
def test_a_device_has_one_name(gpus: int, names: list[str], monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Engines, queues and what is kept go by it; the second GPU is the current one where there are two."""
    assert pick(device).type == device
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: gpus - 1)
    assert [str(pick(name)) for name in ("cuda:0", f"cuda:{gpus - 1}", "cuda")] == names
    assert str(pick(None)) == names[0]


def test_threads_are_borrowed(device: str) -> None:
    before = torch.get_num_threads()
    with threads(before + 2):
        assert torch.get_num_threads() == before + 2 and float(torch.ones(3, device=device).sum()) == 3
        with threads(None):
            assert torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before
