"""In which tables a model looks up its whole-number inputs, and so the values that they may have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..core.errors import ExplorerError, TaskError, cause
from ..core.message import say
from ..models.onnx_module import OnnxModule
from ..models.replica import share
from ..models.task import to_device
from .onnx_weights import PASSES

LOOKUPS = (F.embedding, torch.embedding, F.embedding_bag)


def tables(module: nn.Module, inputs: Mapping[Any, Tensor], tokens: Iterable[Any]) -> dict[Any, int]:
    """{input: the least number of rows of the tables that it is looked up in}; what no table reads is left out.

    inputs: one sample of each, by name, or by place; the whole numbers ``tokens`` are zeros. A module of torch is run with them, and
    once more for each with ones in its place: the tables that are asked for other rows read it. An ONNX graph is followed. Raises
    :class:`TaskError` where the model cannot be run with such inputs.
    """
    if isinstance(module, OnnxModule):
        rows = _of_graph(module)
        names = [one.name for one in module.graph.inputs]
        keys = {name: names[name] if isinstance(name, int) and name < len(names) else name for name in tokens}
        return {name: rows[key] for name, key in keys.items() if key in rows}
    copied = share(module)
    first = next(module.parameters(), torch.empty(0))

    def asked(given: Mapping[Any, Tensor]) -> list[tuple[int, Tensor]]:
        with torch.no_grad(), Watch() as watch:
            moved = to_device(dict(given), first.device)
            if all(isinstance(name, int) for name in moved):
                copied(*moved.values())
            else:
                copied(**moved)
        return watch.seen

    try:
        base = asked(inputs)
        found = {}
        for name in tokens:
            moved = asked({**inputs, name: torch.ones_like(inputs[name])}) if any(n > 1 for n, _ in base) else base
            rows_of = [
                rows - int(before.max()) for (rows, before), (_, after) in zip(base, moved, strict=False)
                if before.numel() and not torch.equal(before, after)
            ]  # fmt: skip
            if rows_of:
                found[name] = min(rows_of)
    except ExplorerError:
        raise
    except Exception as error:  # any forward may come here
        raise TaskError(
            say(
                "the model fails on a sample of such inputs: {cause}; give their names, shapes and kinds",
                cause=cause(error, 200),
            )
        ) from error
    return found


class Watch(TorchFunctionMode):
    """Notes (rows of the table, indices) of every look-up."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, Tensor]] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in LOOKUPS:
            named = dict(zip(("input", "weight"), args, strict=False)) | (kwargs or {})
            if func is torch.embedding:  # which names the table first
                named = dict(zip(("weight", "input"), args, strict=False)) | (kwargs or {})
            self.seen.append((len(named["weight"]), named["input"].clone()))
        return func(*args, **(kwargs or {}))


def _of_graph(module: OnnxModule) -> dict[str, int]:
    """{input of the graph: rows} through steps that move values and change none."""
    graph = onnx.load_from_string(module.graph.lifted).graph
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    shapes |= {place.tensor: place.shape for place in module.graph.places.values()}
    shapes |= {name: place.shaped for name, place in module.graph.places.items() if name not in shapes}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                shapes[node.output[0]] = tuple(attribute.t.dims)
    origin = {one.name: one.name for one in module.graph.inputs}
    found: dict[str, int] = {}

    def looked_up(index: str, table: str, axis: int = 0) -> None:
        if index in origin and shapes.get(table):
            rows = shapes[table][axis]
            found[origin[index]] = min(rows, found.get(origin[index], rows))

    for node in graph.node:
        if node.op_type in PASSES and node.input and node.input[0] in origin:
            origin |= dict.fromkeys(node.output, origin[node.input[0]])
        elif node.op_type in ("Identity", "Cast") and node.input[0] in shapes:
            shapes.setdefault(node.output[0], shapes[node.input[0]])
        elif node.op_type == "Gather":
            axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
            looked_up(node.input[1], node.input[0], axis)
        elif node.op_type == "EmbedLayerNormalization":
            looked_up(node.input[0], node.input[2])
            looked_up(node.input[1], node.input[4])
    return found
