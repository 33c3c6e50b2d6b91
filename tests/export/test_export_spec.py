"""The rebuilding spec: models of many kinds come back; what a hostile file asks for is never done."""

from __future__ import annotations

import copy
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import explorer
from explorer.core.errors import LoadError, UnsupportedError
from explorer.export.calls import Call
from explorer.export.files import SPEC_KEY
from explorer.export.rebuild import inputs_of, parse, rebuild
from explorer.export.spec import trace


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
def test_many_kinds_of_models_come_back(case: str) -> None:
    make, inputs = CASES[case]
    module = make().eval()
    spec, weights = trace(module, Call((inputs(2),), {}))
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


def test_tracing_does_not_disturb_other_threads() -> None:
    module, call = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval(), Call((torch.randn(2, 3),), {})
    other, x = Images().eval(), torch.randn(2, 1, 8, 8)
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


def test_what_has_no_faithful_graph_is_said() -> None:
    class Own(nn.Linear):
        pass

    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(x).real

    with pytest.raises(UnsupportedError, match="fft"):
        trace(Calls(), Call((torch.randn(2, 3),), {}))
    spec, _ = trace(nn.Sequential(Own(3, 2)), Call((torch.randn(2, 3),), {}))
    assert [node["op"] for node in spec["graph"]] == ["input", "tensor", "tensor", "function", "output"]


def _honest() -> tuple[dict[str, Any], dict[str, Tensor]]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Flatten(1), nn.Linear(4, 2)).eval()
    spec, weights = trace(module, Call((torch.randn(2, 3),), {}))
    return json.loads(json.dumps(spec)), weights


def _node(spec: dict[str, Any], **changes: Any) -> None:
    spec["graph"].insert(
        -1, {"op": "function", "name": "evil", "target": "torch.add", "args": [], "kwargs": {}} | changes
    )


def _of_input(spec: dict[str, Any], op: str, target: Any) -> None:
    _node(spec, op=op, target=target, args=[{"node": spec["graph"][0]["name"]}])


def _tie(spec: dict[str, Any], weights: dict[str, Tensor], target: Any) -> None:
    spec["tied"]["0.weight"] = target
    weights.pop("0.weight")
    spec["tensors"].pop("0.weight")


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


CODE = "__import__('os').system('touch canary')"
HOSTILE: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], Any]] = {
    "os.system": lambda s, w: _node(s, target="os.system", args=["touch canary"]),
    "eval": lambda s, w: _node(s, target="builtins.eval", args=[CODE]),
    "import": lambda s, w: _node(s, target="__import__", args=["os"]),
    "torch.load": lambda s, w: _node(s, target="torch.load", args=["canary"]),
    "torch.hub": lambda s, w: _node(s, target="torch.hub.load", args=["a/b", "c"]),
    "dotted function": lambda s, w: _node(s, target="torch.nn.functional.relu.__globals__"),
    "method is a list": lambda s, w: _of_input(s, "method", ["add"]),
    "unknown op": lambda s, w: _node(s, op="exec"),
    "op is a list": lambda s, w: _node(s, op=["function"], target=["torch.add"]),
    "code as a name": lambda s, w: _node(s, name=f"a = {CODE} #"),
    "newline in a name": lambda s, w: _node(s, name="a\nimport os"),
    "keyword as a name": lambda s, w: _node(s, name="import"),
    "dunder name": lambda s, w: _node(s, name="__class__"),
    "code as an input": lambda s, w: s["graph"][0].update(name=f"x={CODE}"),
    "code as a keyword": lambda s, w: _node(s, kwargs={f"a={CODE}, b": 1}),
    "code as a method": lambda s, w: _of_input(s, "method", f"add({CODE})"),
    "dunder method": lambda s, w: _of_input(s, "method", "__reduce__"),
    "numpy method": lambda s, w: _of_input(s, "method", "numpy"),
    "method of a text": lambda s, w: _node(s, op="method", target="split", args=["a b"]),
    "dunder attribute": lambda s, w: _of_input(s, "attribute", "__class__"),
    "grad_fn attribute": lambda s, w: _of_input(s, "attribute", "grad_fn"),
    "module that is not listed": lambda s, w: _node(s, op="module", target="forward"),
    "tensor that is not listed": lambda s, w: _node(s, op="tensor", target="0.__class__"),
    "node from the future": lambda s, w: _node(s, args=[{"node": "later"}]),
    "unknown tag": lambda s, w: _node(s, args=[{"code": CODE}]),
    "two tags": lambda s, w: _node(s, args=[{"tuple": [], "dict": {}}]),
    "dtype": lambda s, w: _node(s, args=[{"dtype": "hub"}]),
    "device": lambda s, w: _node(s, args=[{"device": "cuda"}]),
    "huge number": lambda s, w: _node(s, target="torch.zeros", args=[10**15]),
    "long text": lambda s, w: _node(s, args=["x" * 1000]),
    "deep nesting": lambda s, w: _node(s, args=[_deep(60)]),
    "name twice": lambda s, w: _node(s, name=s["graph"][0]["name"], op="input"),
    "no output": lambda s, w: s["graph"].pop(),
    "output in the middle": lambda s, w: s["graph"].insert(1, s["graph"][-1]),
    "graph is no list": lambda s, w: s.update(graph={"a": 1}),
    "module class": lambda s, w: s["modules"]["0"].update(type="Module"),
    "module class with a path": lambda s, w: s["modules"]["0"].update(type="os.system"),
    "extra module argument": lambda s, w: s["modules"]["0"]["arguments"].update(device="cuda"),
    "missing module argument": lambda s, w: s["modules"]["0"]["arguments"].pop("bias"),
    "module argument of a wrong type": lambda s, w: s["modules"]["0"]["arguments"].update(in_features="three"),
    "huge module": lambda s, w: s["modules"]["0"]["arguments"].update(in_features=2**31 - 1),
    "huge layer count": lambda s, w: s["modules"].update(
        evil={"type": "LSTM", "arguments": dict.fromkeys(("input_size", "hidden_size"), 3) | {"num_layers": 10**8}}
    ),
    "module over a method": lambda s, w: s["modules"].update({"forward": s["modules"]["0"]}),
    "module in a dunder": lambda s, w: s["modules"].update({"__dict__.x": s["modules"]["0"]}),
    "module within a module": lambda s, w: s["modules"].update({"0.0": s["modules"]["0"]}),
    "path with code": lambda s, w: s["modules"].update({f"a;{CODE}": s["modules"]["0"]}),
    "shape": lambda s, w: s["tensors"]["0.weight"].update(shape=[10**6, 10**6]),
    "both shapes": lambda s, w: (
        s["tensors"]["0.weight"].update(shape=[4, 5]), w.update({"0.weight": torch.zeros(4, 5)}),
    ),
    "dtype of a tensor": lambda s, w: s["tensors"]["0.weight"].update(dtype="float64"),
    "role": lambda s, w: s["tensors"]["0.weight"].update(role="buffer"),
    "odd role": lambda s, w: s["tensors"]["0.weight"].update(role="hook"),
    "missing tensor": lambda s, w: w.pop("0.weight"),
    "missing in both": lambda s, w: (w.pop("0.weight"), s["tensors"].pop("0.weight")),
    "extra tensor": lambda s, w: w.update(evil=torch.zeros(2)),
    "extra in both": lambda s, w: (
        w.update({"0.evil": torch.zeros(2)}),
        s["tensors"].update({"0.evil": {"shape": [2], "dtype": "float32", "role": "buffer"}}),
    ),
    "tensor over a method": lambda s, w: (
        w.update(forward=torch.zeros(2)),
        s["tensors"].update(forward={"shape": [2], "dtype": "float32", "role": "buffer"}),
    ),
    "tied to nothing": lambda s, w: s["tied"].update(a="b"),
    "tied over another": lambda s, w: s["tied"].update({"0.weight": "3.weight"}),
    "tied with another shape": lambda s, w: _tie(s, w, "3.weight"),
    "tied to a list": lambda s, w: _tie(s, w, ["3.weight"]),
    "bias where there is none": lambda s, w: s["modules"]["0"]["arguments"].update(bias=False),
    "version": lambda s, w: s.update(version=99),
    "format": lambda s, w: s.update(format="pickle"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_specs_are_refused_and_run_nothing(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec, weights = copy.deepcopy(_honest())
    HOSTILE[case](spec, weights)
    save_file(weights, tmp_path / "model.safetensors", {SPEC_KEY: json.dumps(spec)})
    with pytest.raises(LoadError) as caught:
        explorer.load_exported(tmp_path)
    assert len(str(caught.value)) < 1200 and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]  # no canary


def test_the_honest_spec_loads(tmp_path: Path) -> None:
    spec, weights = _honest()
    save_file(weights, tmp_path / "model.safetensors", {SPEC_KEY: json.dumps(spec)})
    assert explorer.load_exported(tmp_path / "model.safetensors")(torch.randn(2, 3)).shape == (2, 2)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"format": NaN}', '{"a": ' * 3000 + "1" + "}" * 3000]
)
def test_texts_that_are_no_spec(text: str) -> None:
    with pytest.raises(LoadError):
        parse(text)


def test_damaged_files(tmp_path: Path) -> None:
    spec, weights = _honest()
    whole = save(weights, {SPEC_KEY: json.dumps(spec)})
    path = tmp_path / "model.safetensors"
    for cut in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(LoadError, match=r"model\.safetensors"):
            explorer.load_exported(path)
    path.write_bytes(b"\xff" * 8 + whole[8:])
    with pytest.raises(LoadError):
        explorer.load_exported(path)
    with pytest.raises(LoadError, match="no such file"):
        explorer.load_exported(tmp_path / "nowhere")
    path.write_bytes(save(weights))
    with pytest.raises(LoadError, match="weights only"):
        explorer.load_exported(path)


def test_damaged_zips(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK no zip")
    with pytest.raises(LoadError, match="cannot be read"):
        explorer.load_exported(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(LoadError, match=r"0 files named model\.safetensors"):
        explorer.load_exported(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.safetensors", bytes(50_000_000))
    with pytest.raises(LoadError):
        explorer.load_exported(path)
