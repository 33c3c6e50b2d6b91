"""The rebuilding spec: models of many kinds come back without their code."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.core.errors import UnsupportedError
from explorer.export.rebuild import inputs_of, parse, rebuild
from explorer.export.spec import trace
from explorer.models.calls import Call


class Tied(nn.Module):
    """Tied weights, both kinds of buffers, a plain tensor, a constant, an unused layer, defaults that stay defaults."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.decoder = nn.Linear(8, 20, bias=False)
        self.decoder.weight = self.embedding.weight
        self.register_buffer("position", torch.randn(1, 30, 8))
        self.register_buffer("scale", torch.full((8,), 0.5), persistent=False)
        self.plain = torch.full((8,), 2.0)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None, gain: float = 1.0) -> Tensor:
        h = self.embedding(x) + self.position[:, : x.shape[1]]
        if mask is not None:
            h = h * mask
        h = h * self.scale * self.plain * torch.tensor(2.0)
        return self.decoder(F.dropout(h, 0.1, self.training)) * gain


class Attention(nn.Module):
    """nn.MultiheadAttention and the encoder layers as they are; a class token; a dtype taken from the input."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="gelu")
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, norm=nn.LayerNorm(8)
        )
        self.layer = layer
        self.more = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.token = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        h, _ = self.attention(x, x, x, need_weights=False)
        h = self.encoder(self.layer(h))
        for layer in self.more:
            h = F.relu(layer(h)).to(x.dtype)
        return h.mean(1), F.softmax(h, dim=-1, dtype=torch.float32)


class Images(nn.Module):
    """Many layer kinds, functions with constants, infinity, a dict as output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3, groups=4, padding_mode="reflect", padding=1), nn.Hardtanh(0.0, 6.0),
            nn.AdaptiveAvgPool2d((None, 2)), nn.Flatten(), nn.LayerNorm(32), nn.Dropout(), nn.Linear(32, 3),
        )  # fmt: skip
        self.up = nn.ConvTranspose2d(1, 1, 2, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = F.interpolate(F.max_pool2d(self.up(x), 2), size=(8, 8))
        b, c, h, w = y.shape
        y = y.reshape(b, c, h, w)[..., :].masked_fill(y < -1e9, float("-inf"))
        return {"a": self.body(y), "b": F.adaptive_avg_pool2d(y, 1)}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, 2, bidirectional=True)
        self.cell = nn.GRUCell(10, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h0 = torch.zeros(4, x.size(1), 5, dtype=x.dtype, device=x.device)
        out, (_, c) = self.lstm(x, (h0, h0))
        steps = torch.arange(x.shape[0]).unsqueeze(-1).unsqueeze(-1)
        return self.cell((out + steps)[-1]), c[0]


CASES = {
    "tied": (Tied, lambda n: torch.randint(0, 20, (n, 7))),
    "attention": (Attention, lambda n: torch.randn(n, 5, 8)),
    "images": (Images, lambda n: torch.randn(n, 1, 8, 8)),
    "recurrent": (Recurrent, lambda n: torch.randn(6, n, 3)),
}


def _flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for one in (value.values() if isinstance(value, dict) else value) for t in _flat(one)]


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_many_kinds_of_models_come_back(case: str, device: str) -> None:
    make, inputs = CASES[case]
    module = make().eval()
    spec, weights = trace(module.to(device), Call((inputs(2).to(device),), {}))
    module.cpu()  # where files are loaded
    again = rebuild(parse(json.dumps(spec, allow_nan=False)), weights)
    assert inputs_of(again) == ["x"]
    for n in (1, 2, 5):
        x = inputs(n)
        for a, b in zip(_flat(module(x)), _flat(again(x)), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert list(again.state_dict()) == list(module.state_dict())
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    assert [name for name, _ in again.named_parameters(remove_duplicate=False)] == names
    save(weights)  # shared or non-contiguous tensors would be refused
    if case == "tied":
        assert again.decoder.weight is again.embedding.weight


def test_tracing_does_not_disturb_other_threads(device: str) -> None:
    module, call = (
        nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval().to(device),
        Call((torch.randn(2, 3).to(device),), {}),
    )
    other, x = Images().eval().to(device), torch.randn(2, 1, 8, 8).to(device)
    with torch.no_grad():
        expected = other(x)["a"]
    problems: list[object] = []
    done = threading.Event()

    def evaluate() -> None:
        while not done.is_set():
            try:
                with torch.no_grad():
                    assert torch.equal(other(x)["a"], expected)
            except Exception as error:
                problems.append(error)

    def export() -> None:
        for _ in range(30):
            trace(module, call)

    threads = [threading.Thread(target=work) for work in (evaluate, export, export)]
    before = nn.Module.__call__
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    done.set()
    threads[0].join()
    assert problems == [] and nn.Module.__call__ is before


def test_what_has_no_faithful_graph_is_said(device: str) -> None:
    class Own(nn.Linear):
        pass

    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(x).real

    call = Call((torch.randn(2, 3).to(device),), {})
    with pytest.raises(UnsupportedError, match="fft"):
        trace(Calls(), call)
    spec, _ = trace(nn.Sequential(Own(3, 2)).to(device), call)
    assert [node["op"] for node in spec["graph"]] == ["input", "tensor", "tensor", "function", "output"]
