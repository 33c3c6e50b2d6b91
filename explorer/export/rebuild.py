"""Rebuilding spec + weights -> nn.Module. The file is a stranger's: every name is checked before it is used."""

from __future__ import annotations

import inspect
import json
import keyword
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..core.errors import LoadError, cause
from ..core.message import say
from .allowed import ATTRIBUTES, BY_NAME, FUNCTIONS, METHODS, MODULES
from .spec import FORMAT, VERSION

SPEC_LIMIT = 16_000_000  # characters
NODES, DEPTH, INTEGER, LAYERS = 100_000, 16, 2**31 - 1, 1024
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool,
    )
}  # fmt: skip
_ATOM = re.compile(r"[A-Za-z0-9_]{1,200}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
ROLES = ("parameter", "buffer", "constant")


def _refuse(where: str, what: str, accepted: str) -> LoadError:
    return LoadError(say("spec, {where}: {what}; accepted: {accepted}", where=where, what=what, accepted=accepted))


def _name(value: object, where: str) -> str:
    """An identifier that generated code may hold."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or keyword.iskeyword(value) or value.startswith("__"):
        raise _refuse(where, f"name {str(value)[:80]!r}", "an identifier without leading double underscores")
    return value


def _path(value: object, where: str) -> str:
    """A dotted name of a module or tensor."""
    atoms = value.split(".") if isinstance(value, str) and len(value) <= 1000 else []
    if not atoms or len(atoms) > 64 or any(not _ATOM.fullmatch(a) or a.startswith("__") for a in atoms):
        raise _refuse(where, f"path {str(value)[:80]!r}", "dotted identifiers without leading double underscores")
    return str(value)


def _dict(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > NODES:
        raise _refuse(where, f"{type(value).__name__}", f"an object with at most {NODES:,} entries")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > NODES:
        raise _refuse(where, f"{type(value).__name__}", f"a list with at most {NODES:,} entries")
    return value


def decode(value: Any, where: str, nodes: Mapping[str, fx.Node], depth: int = 0) -> Any:
    """The value that :func:`explorer.export.spec.encode` wrote; anything else is a :class:`LoadError`."""
    if depth > DEPTH:
        raise _refuse(where, "nested too deeply", f"at most {DEPTH} levels")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) > INTEGER:
            raise _refuse(where, f"the number {str(value)[:40]}", f"whole numbers up to {INTEGER:,}")
        return value
    if isinstance(value, float):
        return value
    if isinstance(value, str):
        if len(value) > 100:
            raise _refuse(where, f"a text of {len(value)} characters", "at most 100")
        return value
    if isinstance(value, list):
        return [decode(one, where, nodes, depth + 1) for one in _list(value, where)]
    tag, inner = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else (None, None)
    if tag == "node" and isinstance(inner, str) and inner in nodes:
        return nodes[inner]
    if tag == "tuple":
        return tuple(decode(one, where, nodes, depth + 1) for one in _list(inner, where))
    if tag == "dict":
        return {_name(key, where): decode(one, where, nodes, depth + 1) for key, one in _dict(inner, where).items()}
    if tag == "slice" and isinstance(inner, list) and len(inner) == 3:
        return slice(*(_bound(one, where, nodes, depth + 1) for one in inner))
    if tag == "float" and inner in ("inf", "-inf", "nan"):
        return float(inner)
    if tag == "dtype" and isinstance(inner, str) and inner in DTYPES:
        return DTYPES[inner]
    if tag == "device" and inner == "cpu":
        return torch.device("cpu")
    if tag == "ellipsis" and inner is True:
        return Ellipsis
    raise _refuse(where, f"value {str(value)[:80]!r}", "a constant, or one of the spec's tagged objects")


def _bound(value: Any, where: str, nodes: Mapping[str, fx.Node], depth: int) -> Any:
    """A slice's end: ``x[1:]`` may be traced as sys.maxsize."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    found = decode(value, where, nodes, depth)
    if found is not None and not isinstance(found, fx.Node):
        raise _refuse(where, f"slice bound {str(value)[:40]!r}", "a whole number, nothing or a node")
    return found


def _module(item: object, where: str, depth: int = 0) -> nn.Module:
    """One allow-listed module on the meta device: no memory, whatever sizes the file states."""
    item = _dict(item, where)
    name, arguments = item.get("type"), _dict(item.get("arguments"), where)
    if not isinstance(name, str) or name not in BY_NAME:
        raise _refuse(where, f"module type {str(name)[:80]!r}", "the allow-listed classes of torch.nn")
    accepted = set(MODULES[BY_NAME[name]])
    if depth > 3 or set(arguments) != accepted:
        odd = sorted(set(arguments) ^ accepted)
        what = f"arguments of {name} ({', '.join(map(str, odd))[:120]})"
        raise _refuse(where, what, ", ".join(sorted(accepted)) or "none")
    values: dict[str, Any] = {}
    for key, value in arguments.items():
        if isinstance(value, dict) and set(value) == {"module"}:
            values[key] = _module(value["module"], f"{where}.{key}", depth + 1)
            continue
        if key == "layers" and isinstance(value, list) and len(value) <= LAYERS:
            values[key] = [_module(_dict(one, where).get("module"), f"{where}.layers", depth + 1) for one in value]
            continue
        values[key] = decode(value, f"{where}.{key}", {})
        if key == "num_layers" and not (isinstance(value, int) and 0 < value <= LAYERS):
            raise _refuse(where, f"num_layers={value!r}", f"1 to {LAYERS}")
        if key in ("hidden_sizes", "proj_sizes") and not _sizes(values[key]):
            raise _refuse(where, f"{key}={str(value)[:80]}", f"a tuple of at most {2 * LAYERS} whole numbers above 0")
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return BY_NAME[name](**values)
    except Exception as error:
        what = f"{name} refuses its arguments ({type(error).__name__}: {str(error)[:120]})"
        raise _refuse(where, what, "valid ones") from None


def _sizes(value: object) -> bool:
    """Sizes of the layers and directions of a recurrent stack."""
    small = isinstance(value, tuple) and len(value) <= 2 * LAYERS
    return small and all(type(one) is int and one > 0 for one in value)  # type: ignore[attr-defined]


def _plant(root: nn.Module, path: str, child: nn.Module) -> None:
    *parents, last = path.split(".")
    for atom in parents:
        if atom not in root._modules:
            if hasattr(root, atom):
                raise _refuse("modules", f"path {path!r}", "a name that nn.Module does not use itself")
            root.add_module(atom, nn.Module())
        root = root._modules[atom]  # type: ignore[assignment]
    if hasattr(root, last):
        raise _refuse("modules", f"path {path!r}", "each path once, and none that nn.Module uses itself")
    root.add_module(last, child)


def _owner(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    *parents, last = path.split(".")
    for atom in parents:
        if atom not in root._modules:
            root.add_module(atom, nn.Module())
        root = root._modules[atom]  # type: ignore[assignment]
    return root, last


def _fill(root: nn.Module, listed: dict[str, Any], tied: dict[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Put the file's tensors where the spec says; names, shapes and dtypes must agree exactly."""
    missing, extra = sorted(set(listed) - set(weights)), sorted(set(weights) - set(listed))
    if missing or extra:
        what = f"no tensor {missing[0]!r} in the file" if missing else f"the file holds {extra[0]!r} beside the spec's"
        raise _refuse("tensors", what, "exactly the tensors that the spec lists")
    placed: dict[str, Tensor] = {}
    for name, row in listed.items():
        row, tensor, where = _dict(row, f"tensor {name}"), weights[name], f"tensor {_path(name, 'tensors')}"
        role = str(row.get("role"))
        stated = role in ROLES and row.get("shape") == list(tensor.shape)
        if not stated or DTYPES.get(str(row.get("dtype"))) != tensor.dtype:
            what = f"the file holds {tuple(tensor.shape)} {tensor.dtype}"
            raise _refuse(where, what, f"what the spec states: {str(row)[:120]}")
        placed[name] = nn.Parameter(tensor, requires_grad=tensor.is_floating_point()) if role == "parameter" else tensor
        _set(root, name, placed[name], role)
    for name, source in tied.items():
        if not isinstance(source, str) or source not in placed or name in placed:
            raise _refuse("tied", f"{str(name)[:80]!r} -> {str(source)[:80]!r}", "another name of a tensor in the file")
        _set(root, _path(name, "tied"), placed[source], listed[source]["role"])
    left = [name for name, t in [*root.named_parameters(), *root.named_buffers()] if t.is_meta]
    if left:
        raise _refuse("tensors", f"no tensor for {left[0]!r}", "one for each parameter and buffer of the modules")


def _set(root: nn.Module, path: str, tensor: Tensor, role: str) -> None:
    owner, last = _owner(root, path)
    if last in owner._parameters or last in owner._buffers:
        if (last in owner._parameters) != isinstance(tensor, nn.Parameter):
            raise _refuse(f"tensor {path}", f"role {role!r}", "the role that its module gives it")
        needed = getattr(owner, last)  # None where the module was made without, e.g. bias=False
        if needed is None or needed.shape != tensor.shape:
            what = "none" if needed is None else f"shape {tuple(needed.shape)}"
            raise _refuse(f"tensor {path}", f"shape {tuple(tensor.shape)}", f"{what}, as its module needs")
        setattr(owner, last, tensor)  # recurrent modules follow it in their list of weights
    elif hasattr(owner, last) or type(owner) in MODULES:
        raise _refuse(f"tensor {path}", "its module has no such tensor", "a name that the module uses for one")
    elif isinstance(tensor, nn.Parameter):
        owner.register_parameter(last, tensor)
    else:
        owner.register_buffer(last, tensor, persistent=role != "constant")


def _graph(items: list[Any], modules: set[str], names: set[str]) -> fx.Graph:
    """A torch.fx graph of allow-listed operations only."""
    graph, nodes = fx.Graph(), dict[str, fx.Node]()
    for index, raw in enumerate(items):
        item, where = _dict(raw, f"node {index}"), f"node {index}"
        op, target = item.get("op"), item.get("target", "")
        if not isinstance(op, str) or not isinstance(target, str):
            raise _refuse(where, "op or target is no text", "the allow-listed operations of the format")
        args = [decode(one, where, nodes) for one in _list(item.get("args", []), where)]
        kwargs = {_name(k, where): decode(one, where, nodes) for k, one in _dict(item.get("kwargs", {}), where).items()}
        if op == "output":
            if len(args) != 1 or index != len(items) - 1:
                raise _refuse(where, "an output in the middle", "one output, the last node")
            graph.output(args[0])
            return graph
        name = _name(item.get("name"), where)
        if name in nodes:
            raise _refuse(where, f"name {name!r} for the second time", "each name once")
        if op == "input":
            made = graph.create_node("placeholder", name, name=name)
        elif op == "tensor" and target in names:
            made = graph.create_node("get_attr", target, name=name)
        elif op == "module" and target in modules:
            made = graph.create_node("call_module", target, tuple(args), kwargs, name=name)
        elif op == "method" and target in METHODS and args and isinstance(args[0], fx.Node):
            made = graph.create_node("call_method", target, tuple(args), kwargs, name=name)
        elif op == "function" and target in FUNCTIONS:
            made = graph.create_node("call_function", FUNCTIONS[target], tuple(args), kwargs, name=name)
        elif op == "attribute" and target in ATTRIBUTES and len(args) == 1 and isinstance(args[0], fx.Node):
            made = graph.create_node("call_function", getattr, (args[0], target), name=name)
        else:
            raise _refuse(where, f"{op[:40]} {target[:80]!r}", "the allow-listed operations of the format")
        nodes[name] = made
    raise _refuse("graph", "no output", "one output, the last node")


def parse(text: str) -> dict[str, Any]:
    """The JSON of a spec, with its marker and version checked."""
    if len(text) > SPEC_LIMIT:
        raise LoadError(say("spec: {count:,} characters; accepted: at most {most:,}", count=len(text), most=SPEC_LIMIT))
    try:
        spec = json.loads(text, parse_constant=lambda name: math.nan)
    except (ValueError, RecursionError) as error:
        why = cause(error, 120)
        raise LoadError(say("spec: not valid JSON ({why}); accepted: what export writes", why=why)) from None
    if not isinstance(spec, dict) or spec.get("format") != FORMAT:
        raise LoadError(say('spec: no "format": "{format}"; accepted: what export writes', format=FORMAT))
    if spec.get("version") != VERSION:
        found = str(spec.get("version"))[:20]
        raise LoadError(say("spec: version {version}; this release reads version {own}", version=found, own=VERSION))
    return spec


def rebuild(spec: Mapping[str, Any], weights: Mapping[str, Tensor]) -> nn.Module:
    """An eval-mode module from a parsed spec; parameter names are the original's. Raises :class:`LoadError`."""
    root = nn.Module()
    rows = _dict(spec.get("modules"), "modules")
    for path in rows:
        _plant(root, _path(path, "modules"), _module(rows[path], f"module {path}"))
    listed, tied = _dict(spec.get("tensors"), "tensors"), _dict(spec.get("tied"), "tied")
    _fill(root, listed, tied, weights)
    graph = _graph(_list(spec.get("graph"), "graph"), set(rows), {*listed, *tied})
    try:
        graph.lint()
        made = fx.GraphModule(root, graph, class_name="ExportedModel")
    except Exception as error:
        raise LoadError(say("spec, graph: torch.fx refuses it ({cause})", cause=cause(error, 160))) from None
    for held in (made._modules, made._parameters, made._buffers):  # copied in the order of use, and only what is used
        held.clear()
    for name, child in root._modules.items():
        made.add_module(name, child)
    for name, parameter in root._parameters.items():
        made.register_parameter(name, parameter)
    for name, buffer in root._buffers.items():
        made.register_buffer(name, buffer, persistent=name not in root._non_persistent_buffers_set)
    return made.eval()


def inputs_of(module: nn.Module) -> list[str]:
    """Names of a rebuilt module's inputs."""
    return list(inspect.signature(module.forward).parameters)
