"""What an ONNX model may hold: operators that ONNX Runtime has, functions that end, tensors of the size they state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import onnx

from ..core.errors import LoadError
from ..core.message import say
from .limits import Limits

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
NODES = 500_000  # of a graph with its functions written out
# a graph that hands out sequences, or decides how long it runs, is for its owner's machine
LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
CODE = frozenset({"EPContext", "PyOp"})  # name files or functions outside of the graph
Key = tuple[str, str]


def gate(model: onnx.ModelProto, limits: Limits, stranger: bool) -> None:
    """Raises :class:`LoadError` for what is not computed. stranger: the file came to a shared server."""
    functions = {(one.domain, one.name): one for one in model.functions}
    if len(functions) < len(model.functions):
        raise LoadError(say("two functions have the same name; refused"))
    calls = {
        key: Counter(_key(node) for node in nodes(one.node) if _key(node) in functions)
        for key, one in functions.items()
    }
    sizes: dict[Key, int] = {}
    for key in _in_order(calls):
        sizes[key] = sum(1 for _ in nodes(functions[key].node)) + sum(
            times * sizes[one] for one, times in calls[key].items()
        )
    total = 0
    for node in [*nodes(model.graph.node), *(node for one in functions.values() for node in nodes(one.node))]:
        key = _key(node)
        if key not in functions:
            _known(node, stranger)
    for node in nodes(model.graph.node):
        total += 1 + sizes.get(_key(node), 0)
    if total > min(NODES, limits.operations):
        raise LoadError(
            say(
                "{count:,} nodes with its functions written out; accepted: at most {most:,}",
                count=total,
                most=min(NODES, limits.operations),
            )
        )


def _key(node: onnx.NodeProto) -> Key:
    return node.domain, node.op_type


def _known(node: onnx.NodeProto, stranger: bool) -> None:
    called = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    if node.domain not in DOMAINS or node.op_type in CODE:
        raise LoadError(
            say(
                "the operator {name} is not one of ONNX's own, and its code is not in the file; accepted: operators of ONNX and of ONNX Runtime (com.microsoft)",
                name=called[:80],
            )
        )
    if stranger and node.op_type in LOOPS:
        raise LoadError(
            say("{name} decides itself how long it runs; on a shared server it is not run; refused", name=called[:80])
        )


def nodes(found: Any) -> Iterator[onnx.NodeProto]:
    """Nodes, with those of the graphs inside of them."""
    waiting = [iter(found)]
    while waiting:
        node = next(waiting[-1], None)
        if node is None:
            waiting.pop()
            continue
        yield node
        for attribute in node.attribute:
            waiting += [
                iter(graph.node) for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
            ]


def _in_order(calls: dict[Key, Counter[Key]]) -> list[Key]:
    """Functions, each behind those it calls. Raises :class:`LoadError` where one calls itself."""
    done: dict[Key, bool] = {}
    order: list[Key] = []
    for start in calls:
        path = [(start, iter(calls[start]))]
        if start in done:
            continue
        done[start] = False
        while path:
            key, rest = path[-1]
            inner = next(rest, None)
            if inner is None:
                path.pop()
                done[key] = True
                order.append(key)
            elif inner not in done:
                done[inner] = False
                path.append((inner, iter(calls[inner])))
            elif not done[inner]:
                raise LoadError(say("the function {name} calls itself; refused", name=inner[1][:80]))
    return order
