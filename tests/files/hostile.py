"""Files that want to run something, or to eat this machine. Each maker writes one file; none of them may succeed."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

CODE = "open('canary', 'w').write('x')"


class Runs:
    """Unpickling it calls a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


PAYLOADS: dict[str, Callable[[], Any]] = {
    "os.system": lambda: Runs(os.system, "touch canary"),
    "exec": lambda: Runs(exec, CODE),
    "open": lambda: Runs(open, "canary", "w"),
    "socket": lambda: Runs(socket.create_connection, ("127.0.0.1", 9)),
    "bytearray": lambda: Runs(bytearray, 1 << 40),
}


def torch_zip(value: Any, new: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def torch_legacy(value: Any) -> bytes:
    return torch_zip(value, False)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("data.pkl")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def numpy_objects(value: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([value], dtype=object))
    return buffer.getvalue()


CONTAINERS: dict[str, Callable[[Any], bytes]] = {
    **{f"pickle {n}": lambda v, n=n: pickle.dumps(v, protocol=n) for n in (0, 2, 4, 5)},  # type: ignore[misc]
    "torch zip": lambda v: torch_zip({"a": torch.zeros(2), "b": v}),
    "torch legacy": lambda v: torch_legacy({"a": torch.zeros(2), "b": v}),
    "zip": lambda v: zipped({"model.pkl": pickle.dumps(v)}),
    "zip in zip": lambda v: zipped({"model.zip": zipped({"data.pkl": pickle.dumps(v)})}),
    "zip as an export": lambda v: zipped({"out/model.safetensors": pickle.dumps(v)}),
    "zip as torch's": lambda v: zipped(
        {"archive/data.pkl": pickle.dumps(v, protocol=2), "archive/version": b"3"}, zipfile.ZIP_STORED
    ),
    "zip as torchscript": lambda v: zipped(
        {"a/data.pkl": pickle.dumps(v), "a/constants.pkl": pickle.dumps(v), "a/code/x.py": CODE.encode()}
    ),
    "tar": lambda v: tarred(pickle.dumps(v)),
    "numpy": numpy_objects,
}
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".pt2", ".zip", ".onnx", ".npz", ".h5", ".keras", "")


def program(folder: Path) -> bytes:
    """An honest .pt2."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    made = torch.export.export(net, (torch.randn(3, 3),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.export.save(made, folder / "honest.pt2")
    return (folder / "honest.pt2").read_bytes()


def changed(data: bytes, change: Callable[[dict[str, bytes]], Any]) -> bytes:
    """A zip with its members changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    return zipped(members, zipfile.ZIP_STORED)


def _json(suffix: str, change: Callable[[Any], Any]) -> Callable[[dict[str, bytes]], None]:
    def edit(members: dict[str, bytes]) -> None:
        name = next(n for n in members if n.endswith(suffix))
        value = json.loads(members[name])
        change(value)
        members[name] = json.dumps(value).encode()

    return edit


def _model(change: Callable[[Any], Any]) -> Callable[[dict[str, bytes]], None]:
    return _json("models/model.json", change)


def _node(**row: Any) -> Callable[[dict[str, bytes]], None]:
    """The first operation of the program replaced."""
    return _model(lambda p: p["graph_module"]["graph"]["nodes"][0].update(row))


def _config(**row: Any) -> Callable[[dict[str, bytes]], None]:
    return _json("model_weights_config.json", lambda c: c["config"]["0.weight"].update(row))


def _meta(**row: Any) -> Callable[[dict[str, bytes]], None]:
    return _json("model_weights_config.json", lambda c: c["config"]["0.weight"]["tensor_meta"].update(row))


def _add(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({f"{next(iter(members)).partition('/')[0]}/{name}": data})


EVIL = pickle.dumps(Runs(os.system, "touch canary"))
STRING = [{"name": "x", "arg": {"as_string": "touch canary"}, "kind": 1}]
PROGRAMS: dict[str, Callable[[dict[str, bytes]], Any]] = {
    "os.system": _node(target="os.system", inputs=STRING),
    "torch.hub": _node(target="torch.hub.load", inputs=STRING),
    "torch.load": _node(target="torch.load", inputs=STRING),
    "torch.ops.load_library": _node(target="torch.ops.load_library", inputs=STRING),
    "operator.methodcaller": _node(target="_operator.methodcaller", inputs=STRING),
    "operator.attrgetter": _node(target="_operator.attrgetter", inputs=STRING),
    "math dunder": _node(target="math.__loader__", inputs=STRING),
    "from_file": _node(target="torch.ops.aten.from_file.default", inputs=STRING),
    "dunder of an operator": _node(target="torch.ops.aten.relu.__init__"),
    "higher order": _node(target="torch.ops.higher_order.cond"),
    "extension": _node(target="#ext.f"),
    "target is a list": _node(target=["torch.ops.aten.relu.default"]),
    "code as a name": _node(name=f"a = {CODE} #"),
    "newline in a name": _node(name="a\nimport os"),
    "keyword as a name": _node(name="import"),
    "code as an output": _node(outputs=[{"as_tensor": {"name": f"x;{CODE}"}}], name=None),
    "code as a keyword": _node(inputs=[{"name": f"a={CODE},b", "arg": {"as_int": 1}, "kind": 2}]),
    "a custom object": _node(inputs=[{"name": "x", "arg": {"as_custom_obj": {"name": "x", "class_fqn": "os.system"}}, "kind": 1}]),
    "a graph as an argument": _node(inputs=[{"name": "x", "arg": {"as_graph": {"name": "g", "graph": {}}}, "kind": 1}]),
    "a huge number": _node(inputs=[{"name": "size", "arg": {"as_ints": [10**15]}, "kind": 1}], target="torch.ops.aten.zeros.default"),
    "a value of the future": _node(inputs=[{"name": "x", "arg": {"as_tensor": {"name": "later"}}, "kind": 1}]),
    "code as a parameter": _model(lambda p: p["graph_module"]["signature"]["input_specs"][0]["parameter"].update(parameter_name=f'0.weight");{CODE}#')),
    "a token": _model(lambda p: p["graph_module"]["signature"]["input_specs"].append({"token": {"arg": {"name": "t"}}})),
    "code as an input": _model(lambda p: p["graph_module"]["module_call_graph"][0]["signature"].update(forward_arg_names=[f"x={CODE}"])),
    "outputs of a class": _model(lambda p: p["graph_module"]["module_call_graph"][0]["signature"].update(out_spec='[1, {"type": "os.system", "context": "1", "children_spec": []}]')),
    "version": _model(lambda p: p["schema_version"].update(major=99)),
    "deep JSON": lambda m: m.update({next(n for n in m if n.endswith("models/model.json")): b"[" * 100_000}),
    "no JSON": lambda m: m.update({next(n for n in m if n.endswith("models/model.json")): b"\xff"}),
    "pickled weight": lambda m: (_config(use_pickle=True)(m), m.update({next(n for n in m if n.endswith("weight_0")): EVIL})),
    "weight elsewhere": _config(path_name="../../../etc/passwd"),
    "huge shape": _meta(sizes=[{"as_int": 2**62}, {"as_int": 2}]),
    "more than its bytes": _meta(sizes=[{"as_int": 4000}, {"as_int": 3}]),
    "strides beyond": _meta(strides=[{"as_int": 10**9}, {"as_int": 1}]),
    "repeated without end": _meta(sizes=[{"as_int": 10**9}, {"as_int": 1}], strides=[{"as_int": 0}, {"as_int": 0}]),
    "negative offset": _meta(storage_offset={"as_int": -5}),
    "symbolic shape": _meta(sizes=[{"as_expr": {"expr_str": CODE}}, {"as_int": 3}]),
    "custom_obj": _add("data/constants/custom_obj_0", EVIL),
    "opaque_obj": _add("data/constants/opaque_obj_0", EVIL),
    "native": _add("data/aotinductor/model/x.so", b"\x7fELF"),
}  # fmt: skip
IGNORED: dict[
    str, Callable[[dict[str, bytes]], Any]
] = {  # parts that torch's loader would run, and that are not read here
    "sample inputs": lambda m: m.update(
        {next(n for n in m if n.endswith("sample_inputs/model.pt")): torch_zip(Runs(os.system, "touch canary"))}
    ),
    "guards": _model(lambda p: p.update(guards_code=[CODE])),
    "range": _model(lambda p: p.update(range_constraints={CODE: {"min_val": 1, "max_val": None}})),
    "expression": _model(
        lambda p: [
            v.update(as_expr={"expr_str": CODE, "hint": None})
            for v in p["graph_module"]["graph"]["sym_int_values"].values()
        ]
    ),
    "metadata": _model(
        lambda p: p["graph_module"]["graph"]["nodes"][0]["metadata"].update(
            torch_fn=CODE, nn_module_stack=f"a,b,{CODE}"
        )
    ),
}


def _entry(name: str, mode: int | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        if mode is not None:
            info.external_attr = mode << 16
        archive.writestr(info, b"/etc/passwd")
        archive.writestr("model.safetensors", save({"a.weight": torch.zeros(2, 2)}))
    return buffer.getvalue()


def _twice() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for _ in range(2):
            archive.writestr("model.safetensors", save({"a.weight": torch.zeros(2, 2)}))
    return buffer.getvalue()


def _lying() -> bytes:
    """A small zip whose directory states a small size for what unpacks to much."""
    data = zipped({"model.safetensors": bytes(60_000_000)})
    return data.replace(struct.pack("<I", 60_000_000), struct.pack("<I", 50_000))


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "bomb": lambda: zipped({"model.safetensors": bytes(100_000_000)}),
    "bomb of many": lambda: zipped({f"{i}": bytes(900_000) for i in range(300)} | {"model.safetensors": b""}),
    "lying bomb": _lying,
    "members without end": lambda: zipped({f"{i}": b"" for i in range(20_001)}, zipfile.ZIP_STORED),
    "..": lambda: _entry("../evil"),
    "inner ..": lambda: _entry("a/../../evil"),
    "backslashes": lambda: _entry("..\\evil"),
    "absolute": lambda: _entry("/tmp/evil"),
    "drive": lambda: _entry("C:/evil"),
    "link": lambda: _entry("evil", 0o120777),
    "twice": _twice,
    "pickle bomb": lambda: zipped({"archive/data.pkl": b"\x80\x02" + b"]q\x00" + b"h\x00" * 1_000_000 + b".", "archive/version": b"3"}, zipfile.ZIP_STORED),
    "empty": lambda: zipped({}),
}  # fmt: skip


def tensors_beyond() -> dict[str, bytes]:
    """torch.save files whose tensors say more than their bytes."""
    small = torch.zeros(4)
    out = {"expanded": torch_zip({"a": small[:1].expand(1 << 20, 1 << 20)})}
    for old in (False, True):
        data = (torch_legacy if old else torch_zip)({"a": torch.arange(1000.0).reshape(10, 100)})
        # pickled sizes: BININT1 10, BININT1 100 -> BININT 2^30 each
        at = data.index(b"K\nKd")
        out[f"sizes {'legacy' if old else 'zip'}"] = data[:at] + b"K\xffK\xff" + data[at + 4 :]
    out["sparse"] = torch_zip({"a": torch.eye(3).to_sparse()})
    return out
