"""What a hostile or damaged file asks for is never done, and is said in one line."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

import explorer
from explorer.core.errors import LoadError
from explorer.export.files import SPEC_KEY
from explorer.export.rebuild import parse
from explorer.export.spec import trace
from explorer.models.calls import Call


def _honest(device: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Flatten(1), nn.Linear(4, 2)).eval().to(device)
    spec, weights = trace(module, Call((torch.randn(2, 3).to(device),), {}))
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
def test_hostile_specs_are_refused_and_run_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.chdir(tmp_path)
    spec, weights = copy.deepcopy(_honest(device))
    HOSTILE[case](spec, weights)
    save_file(weights, tmp_path / "model.safetensors", {SPEC_KEY: json.dumps(spec)})
    with pytest.raises(LoadError) as caught:
        explorer.load_exported(tmp_path)
    assert len(str(caught.value)) < 1200 and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]  # no canary


def test_the_honest_spec_loads(tmp_path: Path, device: str) -> None:
    spec, weights = _honest(device)
    save_file(weights, tmp_path / "model.safetensors", {SPEC_KEY: json.dumps(spec)})
    assert explorer.load_exported(tmp_path / "model.safetensors")(torch.randn(2, 3)).shape == (2, 2)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"format": NaN}', '{"a": ' * 3000 + "1" + "}" * 3000]
)
def test_texts_that_are_no_spec(text: str) -> None:
    with pytest.raises(LoadError):
        parse(text)


def test_damaged_files(tmp_path: Path, device: str) -> None:
    spec, weights = _honest(device)
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
