"""The graph of a torch.export program: JSON -> torch.fx, allow-listed operators and plain arguments only."""

from __future__ import annotations

import json
import keyword
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from ..core.errors import LoadError
from ..core.message import say
from .limits import Limits

DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32, 8: torch.float64,
    10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16, 29: torch.float8_e4m3fn, 30: torch.float8_e5m2,
}  # fmt: skip
MEMORY = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format}
OPERATORS = (
    "getitem",
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "neg",
    "pow",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "and_",
    "or_",
    "not_",
)
SYMBOLIC = ("sym_max", "sym_min", "sym_not", "sym_sum", "sym_int", "sym_float", "sym_sqrt")
ROUNDING = ("ceil", "floor", "trunc", "sqrt")
PRIVATE = frozenset(  # of the ATen operators whose names start with an underscore, those that compute and check their bounds
    {
        "_softmax", "_log_softmax", "_to_copy", "_unsafe_view", "_assert_scalar", "_assert_async", "_assert_tensor_metadata", "_weight_norm",
        "_native_batch_norm_legit_no_training", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_shape_as_tensor", "_prelu_kernel",
    }
)  # fmt: skip
DENIED = re.compile(
    r"from_file|resize|^set_|sparse|quantize|fbgemm|mkldnn|cudnn|miopen|nested|storage|record_stream|unsafe_(chunk|split)|pin_memory|save|load"
)
_ATEN = re.compile(r"torch\.ops\.aten\.([a-z0-9_]{1,80})\.([A-Za-z0-9_]{1,80})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
_ATOM = re.compile(r"[A-Za-z0-9_]{1,200}")
HUGE = 1 << 40  # the largest size or index that a graph may hold, beside the "to the end" of slices


def path_of(value: object) -> str:
    """A dotted name of a tensor, safe within generated code."""
    atoms = value.split(".") if isinstance(value, str) and len(value) <= 1000 else []
    if not atoms or len(atoms) > 64 or any(not _ATOM.fullmatch(a) or a.startswith("__") for a in atoms):
        raise LoadError(say("a tensor is called {name!r}; accepted: dotted identifiers", name=str(value)[:80]))
    return str(value)


def function(target: object) -> Callable[..., Any]:
    """The operator of a name, looked up in the lists above. Raises :class:`LoadError`."""
    text = str(target)
    if found := _ATEN.fullmatch(text):
        name, overload = found.groups()
        if (not name.startswith("_") or name in PRIVATE) and not DENIED.search(name):
            packet = getattr(torch.ops.aten, name, None)
            if packet is not None and overload in packet.overloads():
                return getattr(packet, overload)  # type: ignore[no-any-return]
    family, _, name = text.rpartition(".")
    listed = {"_operator": (operator, OPERATORS), "torch": (torch, SYMBOLIC), "math": (math, ROUNDING)}
    if family in listed and name in listed[family][1]:
        return getattr(listed[family][0], name)  # type: ignore[no-any-return]
    raise LoadError(say("the operator {name!r}; accepted: those of ATen that compute", name=text[:80]))


class GraphReader:
    """Reads a program's "graph_module". held: {name in the graph: FQN of its tensor}. users: names of the inputs, in order."""

    def __init__(self, program: Mapping[str, Any], held: Mapping[str, str], users: list[str], limits: Limits) -> None:
        self.program, self.held, self.users, self.limits = program, held, users, limits
        self.graph = fx.Graph()
        self.nodes: dict[str, fx.Node] = {}

    def read(self) -> fx.Graph:
        """The checked graph."""
        body = self.program["graph"]
        if len(body["nodes"]) > self.limits.operations:
            raise LoadError(
                say(
                    "{count:,} operations; accepted: at most {most:,}",
                    count=len(body["nodes"]),
                    most=self.limits.operations,
                )
            )
        self._inputs()
        for name, target in self.held.items():
            self._keep(name, self.graph.create_node("get_attr", target, name=self._fresh(name)))
        for row in body["nodes"]:
            self._node(row)
        self.graph.output(self._outputs(body))
        self.graph.lint()
        return self.graph

    def _fresh(self, name: object) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or keyword.iskeyword(name) or name.startswith("__"):
            raise LoadError(say("a value is called {name!r}; accepted: an identifier", name=str(name)[:80]))
        if name in self.nodes:
            raise LoadError(say("the name {name!r} for the second time", name=name))
        return name

    def _keep(self, name: str, node: fx.Node) -> None:
        self.nodes[name] = node
        meta = self.program["graph"].get("tensor_values", {}).get(name)
        sizes = meta.get("sizes") if isinstance(meta, dict) else None
        if isinstance(sizes, list):  # a number each, or None where it depends on the inputs
            node.meta["sizes"] = tuple(one.get("as_int") for one in sizes if isinstance(one, dict))

    def _inputs(self) -> None:
        signature = next(row["signature"] for row in self.program["module_call_graph"] if row["fqn"] == "")
        spec = _spec(signature["in_spec"])
        children = spec["children_spec"]
        positional, keywords = children[0]["children_spec"], children[1]
        if any(one["type"] is not None for one in [*positional, *keywords["children_spec"]]):
            raise LoadError(say("its inputs are nested; accepted: tensors, by place or by keyword"))
        names = signature.get("forward_arg_names") or []
        keys = json.loads(keywords["context"]) if keywords["children_spec"] else []
        if len(positional) + len(keys) != len(self.users):
            raise LoadError(
                say("{stated} inputs stated, {used} used", stated=len(positional) + len(keys), used=len(self.users))
            )
        shown = [*names[: len(positional)], *self.users[len(names) : len(positional)], *keys]
        for name, user in zip(shown, self.users, strict=True):
            self._keep(user, self.graph.create_node("placeholder", self._fresh(name), name=self._fresh(user)))

    def _node(self, row: Mapping[str, Any]) -> None:
        target = function(row["target"])
        args, kwargs = [], {}
        for given in row["inputs"]:
            value = self._argument(given["arg"])
            if given.get("kind") == 2:
                kwargs[self._keyword(given["name"])] = value
            else:
                args.append(value)
        outputs = row["outputs"]
        own = row.get("name") or self._single(outputs)
        alone = len(outputs) == 1 and "as_tensors" not in outputs[0]
        node = self.graph.create_node("call_function", target, tuple(args), kwargs, name=self._fresh(own))
        if not outputs:
            return
        if alone:
            self._keep(self._single(outputs) or node.name, node)
            return
        parts = outputs[0]["as_tensors"] if len(outputs) == 1 else outputs
        for index, part in enumerate(parts):
            name = part.get("name") if "name" in part else self._single([part])
            if name is not None:
                self._keep(
                    name,
                    self.graph.create_node("call_function", operator.getitem, (node, index), name=self._fresh(name)),
                )

    def _keyword(self, name: object) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or keyword.iskeyword(name):
            raise LoadError(say("an argument is called {name!r}; accepted: an identifier", name=str(name)[:80]))
        return name

    @staticmethod
    def _single(outputs: list[Mapping[str, Any]]) -> str | None:
        if len(outputs) != 1:
            return None
        ((kind, inner),) = outputs[0].items()
        if kind == "as_none":
            return None
        if kind not in ("as_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
            raise LoadError(say("an output of kind {kind!r}; accepted: tensors", kind=str(kind)[:40]))
        return inner.get("name") or inner.get("as_name")

    def _value(self, name: object) -> fx.Node:
        if not isinstance(name, str) or name not in self.nodes:
            raise LoadError(say("the value {name!r} is used before it is made", name=str(name)[:80]))
        return self.nodes[name]

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return self._value(value["name"])
        if kind == "as_tensors":
            return [self._value(one["name"]) for one in value]
        if kind in ("as_optional_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
            return self._part(value)
        if kind in ("as_optional_tensors", "as_sym_ints", "as_sym_bools", "as_sym_floats"):
            return [self._part(one) for one in value]
        if kind in ("as_int", "as_float", "as_bool"):
            return _number(value)
        if kind in ("as_ints", "as_floats", "as_bools"):
            return [_number(one) for one in value]
        if kind == "as_int_lists":
            return [[_number(one) for one in row] for row in value]
        if kind == "as_string":
            return _text(value)
        if kind == "as_scalar_type":
            return DTYPES[value]
        if kind == "as_memory_format":
            return MEMORY[value]
        if kind == "as_layout" and value == 7:
            return torch.strided
        if kind == "as_device" and value["type"] == "cpu":
            return torch.device("cpu")
        raise LoadError(
            say(
                "an argument of kind {kind!r}; accepted: tensors, numbers and short texts on the CPU",
                kind=str(kind)[:40],
            )
        )

    def _part(self, value: Mapping[str, Any]) -> Any:
        ((kind, inner),) = value.items()
        if kind == "as_name":
            return self._value(inner)
        if kind == "as_tensor":
            return self._value(inner["name"])
        return None if kind == "as_none" else _number(inner)

    def _outputs(self, body: Mapping[str, Any]) -> Any:
        if any(set(spec) != {"user_output"} for spec in self.program["signature"]["output_specs"]):
            raise LoadError(say("it writes to its buffers or computes a loss; export it in eval mode"))
        signature = next(row["signature"] for row in self.program["module_call_graph"] if row["fqn"] == "")
        leaves = iter([self._argument(one) for one in body["outputs"]])
        return _structure(_spec(signature["out_spec"]), leaves, 0)


def _spec(text: object) -> Any:
    """The tree of a pytree spec."""
    version, tree = json.loads(str(text))
    if version != 1:
        raise LoadError(say("tree spec version {version}; accepted: 1", version=str(version)[:20]))
    return tree


def _structure(spec: Mapping[str, Any], leaves: Any, depth: int) -> Any:
    """Tuples, lists and dicts of the outputs."""
    kind, children = spec["type"], spec["children_spec"]
    if depth > 8 or kind not in (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"):
        raise LoadError(say("it returns a {kind}; accepted: tensors, tuples, lists and dicts", kind=str(kind)[:80]))
    if kind is None:
        return next(leaves)
    parts = [_structure(one, leaves, depth + 1) for one in children]
    if kind in ("builtins.tuple", "builtins.list"):
        return tuple(parts) if kind == "builtins.tuple" else parts
    return dict(zip([_text(key) for key in json.loads(spec["context"])], parts, strict=True))


def _number(value: Any) -> int | float | bool:
    if isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN"):
        return float(value.replace("Infinity", "inf"))
    if isinstance(value, (bool, float)):
        return value
    if isinstance(value, int) and (abs(value) <= HUGE or abs(value) in (2**63 - 1, 2**63, 2**31 - 1)):
        return value
    raise LoadError(say("the number {value}; accepted: up to {most:,}", value=str(value)[:40], most=HUGE))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise LoadError(say("a text argument of {size} characters; accepted: at most 200", size=len(str(value))))
    return value
