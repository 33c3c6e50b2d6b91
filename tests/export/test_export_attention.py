"""Attention without some of its heads comes back from a file as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.core.errors import LoadError
from explorer.export.exporters.onnx import open_session
from explorer.export.rebuild import rebuild
from explorer.export.spec import trace
from explorer.models.attention import PrunedAttention, PrunedEncoder, PrunedEncoderLayer
from explorer.models.calls import Call
from explorer.models.subject import Subject
from tests.contract.nets import tiny

D = 8


class Attention(nn.Module):
    """Self attention, cross attention with widths of its own, an encoder layer, an encoder; one width through all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.key, self.head = nn.Linear(5, D), nn.Linear(5, 6), nn.Linear(D, 3)
        self.attn = nn.MultiheadAttention(D, 4, batch_first=True)
        self.cross = nn.MultiheadAttention(D, 2, kdim=6, vdim=6, bias=False)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(D, 2, 12, batch_first=True), 2, nn.LayerNorm(D))
        self.layer = nn.TransformerEncoderLayer(D, 4, 12, batch_first=True, activation="gelu", norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        h = h + self.attn(h, h, h, need_weights=False)[0]
        key = self.key(x).transpose(0, 1)
        h = h + self.cross(h.transpose(0, 1), key, key)[0].transpose(0, 1)
        return self.head(self.encoder(self.layer(h))).mean(1)


@pytest.fixture(scope="module")
def subject(device: str) -> Subject:
    torch.manual_seed(0)
    module = Attention()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return tiny(module, (6, 5), device=device)


def test_pruned_attention_round_trips_in_every_format(subject: Subject, tmp_path: Path, device: str) -> None:
    recipe = explorer.Recipe().prune("*", sparsity=0.5, granularity="unit")
    module = explorer.compress(subject, recipe).cpu()
    assert type(module.attn) is PrunedAttention is type(module.cross) and type(module.layer) is PrunedEncoderLayer
    assert type(module.encoder) is PrunedEncoder and module.encoder.norm.normalized_shape == (D // 2,)
    bundle = explorer.export(subject, recipe, tmp_path / "out", device=device)
    assert bundle.notes == () and max(bundle.checks.values()) <= 1e-4
    loaded = explorer.load_exported(bundle.folder)
    assert list(loaded.state_dict()) == list(module.state_dict())
    session = open_session(bundle.folder / "model.onnx")
    for n in (1, 7):
        x = subject.example(n).cpu()
        with torch.no_grad():
            expected = module(x)
            torch.testing.assert_close(loaded(x), expected, rtol=0, atol=0)
        found = torch.from_numpy(session.run(None, {"input": x.numpy()})[0])
        assert (found - expected).abs().max() <= 1e-4 * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("argument", [{"num_heads": -1}, {"head_dim": 2**31 - 1}, {"kdim": 3}, {"bias": "x" * 200}], ids=str)
def test_hostile_sizes_are_refused(subject: Subject, argument: dict[str, object]) -> None:
    module = explorer.compress(subject, explorer.Recipe().prune("attn", sparsity=0.5, granularity="unit")).cpu()
    spec, weights = trace(module, Call((subject.example(2).cpu(),), {}))
    spec["modules"]["attn"]["arguments"] |= argument
    with pytest.raises(LoadError):
        rebuild(spec, weights)


@pytest.mark.parametrize("layers", [[], [3], [{"module": None}], [{"type": "Linear"}], {"module": None}, [{"module": {}}] * 2000], ids=lambda x: str(x)[:20])
def test_layers_that_are_none_are_refused(subject: Subject, layers: object) -> None:
    module = explorer.compress(subject, explorer.Recipe().prune("encoder", sparsity=0.5, granularity="unit")).cpu()
    spec, weights = trace(module, Call((subject.example(2).cpu(),), {}))
    spec["modules"]["encoder"]["arguments"]["layers"] = layers
    with pytest.raises(LoadError):
        rebuild(spec, weights)
