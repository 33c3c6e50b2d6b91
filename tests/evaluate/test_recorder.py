"""What a recording may hold, and how torch asks for it to be made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explorer.core.errors import UnsupportedError
from explorer.evaluate.recorder import CudaRecorder, rehearsal


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.masked_select(x, x > 0),
        lambda x: x.to("meta"),
        lambda x: x + torch.ones(3, device="meta"),
    ],
)
def test_a_rehearsal_refuses_what_waits_for_the_device(work: Callable[[Tensor], Any], device: str) -> None:
    with torch.inference_mode(), pytest.raises(UnsupportedError), rehearsal(torch.device(device)):
        work(torch.arange(3.0, device=device))


def test_a_rehearsal_lets_layers_pass(device: str) -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().to(device)
    recurrent, table = nn.LSTM(8, 4, 2, batch_first=True).to(device), nn.Embedding(5, 8).to(device)
    norm, words, picked = (
        nn.BatchNorm1d(4).eval().to(device),
        torch.tensor([[0, 3, 1]]).to(device),
        torch.tensor([0, 2]).to(device),
    )
    with torch.inference_mode(), rehearsal(torch.device(device)):
        found = recurrent(encoder(table(words)))[0]
        found = norm(found[:, picked].flatten(0, 1))
        torch.relu_(found)


def test_a_graph_is_recorded_as_torch_asks_for_it(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Without a GPU: what is called, in which order, and that today's torch takes these arguments."""
    told: list[str] = []

    class Stream:
        def __init__(self, name: Any) -> None:
            self.name = name if isinstance(name, str) else "side"

        def wait_stream(self, other: Any) -> None:
            told.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        told.append(f"on {stream.name}")
        yield
        told.append(f"off {stream.name}")

    @contextmanager
    def graph(*args: Any, **kwargs: Any) -> Iterator[None]:
        bound = inspect.signature(real.__init__).bind(None, *args, **kwargs).arguments
        told.append(f"records on {bound['stream'].name}, {bound['capture_error_mode']}")
        yield
        told.append("recorded")

    class Graph:
        def replay(self) -> None:
            told.append("replays")

    real, answer = torch.cuda.graph, torch.ones(1, device=device)
    sizes = iter([100, 175])
    for name, fake in {
        "device": lambda _: nullcontext(), "Stream": Stream, "current_stream": lambda *_: Stream("main"), "stream": on, "empty_cache": lambda: None,
        "memory_reserved": lambda _: next(sizes), "graph": graph, "CUDAGraph": Graph,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, fake)
    found = CudaRecorder(torch.device("cuda")).record(lambda: told.append("computes") or answer)
    assert found.bytes == 75 and found.replay() is answer
    warm = ["side waits for main", "on side", *["computes"] * 3, "off side", "main waits for side"]
    assert told == [*warm, "records on side, thread_local", "computes", "recorded", "replays"]
