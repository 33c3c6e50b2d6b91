"""Which runner is safe for a subject: a graph, else the order of calls, else every chunk in full; and why not the better one."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..compress.lazy import Lazy
from ..core.errors import cause
from ..core.message import say
from ..models.calls import Call
from ..models.onnx_module import opaque
from ..models.replica import Replica, share
from ..models.subject import Subject
from ..models.task import Task, copied, part
from ..models.trace import trace
from ..models.trial import TOLERANCE, difference, tensors
from . import column_major, expand, recurrent_pace
from .fuse import available, fuse
from .graph import Graph, fetch
from .metrics import metrics_of
from .order import OrderRunner
from .recurrent import watched
from .runners import GraphRunner, Runner, plain_call

MIXED = 1e-3  # of an answer, by which it may differ among other samples: sums are rounded in another order
LOOSE = 5e-2  # of half precision, where only gross differences say anything


def tolerance(dtype: torch.dtype | None) -> float:
    """How far a replay may be from the plain module."""
    return TOLERANCE if dtype in (None, torch.float32, torch.float64) else LOOSE


def runner_for(
    subject: Subject, replica: Replica, two: Any, inputs: Any, plain: bool = False, batch: int = 64, fused: bool = False
) -> Runner:
    """The best runner that gives what the module gives. two, inputs: two and three samples of the task's, collated.

    batch: samples that will be run at once. plain: a graph whose nodes are the module's own and nothing else, for plans that make modules run differently inside.
    fused: products together with what follows them, where this device has operators for it.
    """
    found = _surest(subject, replica, two, inputs, plain, batch, fused)
    found.mixes = _mixes(subject.task, replica, inputs)
    return found


def _surest(subject: Subject, replica: Replica, two: Any, inputs: Any, plain: bool, batch: int, fused: bool) -> Runner:
    task = subject.task
    if (whole := opaque(subject.module)) is not None:
        return Runner(replica, task, whole)
    try:
        why = _unsettled(subject, replica, inputs)
    except Exception as error:  # the evaluation says so, with the sample at fault
        return Runner(replica, task, say("its forward fails ({type})", type=type(error).__name__))
    if why:
        return Runner(replica, task, why, apart=replica.layered is None)
    if not plain_call(task):
        return OrderRunner(replica, task, say("the task calls the module in a way of its own"))
    reason = ""
    attempts = [(True, True, False), (False, True, False), (False, False, False)]
    if fused and replica.layered is None and available(replica.device, replica.dtype):
        attempts = [(True, True, True), (False, True, True), *attempts]
    for attempt in attempts[-1:] if plain else attempts:
        try:
            found = _graph(subject, replica, two, inputs, batch, *attempt)
        except Exception as error:
            reason = say("no graph could be traced: {cause}", cause=cause(error, 120))
            continue
        if isinstance(found, Graph):
            return GraphRunner(replica, task, found)
        reason = found
    return OrderRunner(replica, task, reason)


@torch.no_grad()
def _mixes(task: Task, replica: Replica, inputs: Any) -> bool:
    """Whether what a module answers to a sample depends on the others of its batch, as by a mean over them; where it fails, its evaluation says so."""
    try:
        with replica.weights({}) as whole:
            module = share(whole) if replica.layered is None else whole
            three, two = (tensors(task.forward(module, copied(given))) for given in (inputs, part(inputs, slice(0, 2))))
    except Exception:
        return False
    pairs = [(a[:2], b) for a, b in zip(three, two, strict=False) if a.ndim and b.ndim and len(a) == 3 and a[:2].shape == b.shape]
    return any(bool(a.isfinite().all()) and difference(a, b) > max(MIXED, tolerance(replica.dtype)) for a, b in pairs)


def _state(module: nn.Module) -> list[Any]:
    """What a forward might write down in a module: numbers, containers' lengths, tensors' versions."""
    out: list[Any] = []
    for child in module.modules():
        for name, value in vars(child).items():
            if name in ("_modules", "_parameters", "_buffers", "forward"):
                continue
            if isinstance(value, (int, float, str, tuple, type(None))):
                out.append((name, repr(value)[:200]))
            elif isinstance(value, (list, dict, set)):
                out.append((name, len(value)))
            elif isinstance(value, Tensor):
                out.append((name, id(value), value._version))
        out += [(name, id(b), b._version) for name, b in child._buffers.items() if b is not None]
    return out


def _random(device: torch.device) -> Tensor:
    """State of the generators from which a forward on a device may draw."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return torch.cat(states)


def stirred(weight: Tensor) -> Tensor:
    """A weight with other values, which no average of it nor a direction survives: what was computed from it before is seen to be old."""
    if not weight.is_floating_point():
        return weight
    generator = torch.Generator().manual_seed(0)
    for dim in range(weight.ndim) or (None,):
        shape = [-1 if i == dim else 1 for i in range(weight.ndim)]
        weight = weight * (0.7 + 0.3 * torch.rand(weight.shape[dim] if dim is not None else 1, generator=generator)).view(shape).to(weight)
    return weight


def _stirred(replica: Replica) -> Lazy:
    """All parameters of a replica with other values."""
    base = {name: one.data for name, one in replica.names.items() if isinstance(one, nn.Parameter)}
    return Lazy(base, lambda name: stirred(base[name]))


@torch.no_grad()
def _unsettled(subject: Subject, replica: Replica, inputs: Any) -> str:
    """Why a forward cannot be replayed: it draws random numbers, keeps what it saw or made, writes into its inputs; else ""."""
    task = subject.task
    with replica.weights({}) as whole:
        module = share(whole) if replica.layered is None else whole  # what it keeps is not for the evaluations
        task.forward(module, inputs)  # what a module keeps from its first run on is settled now
        before, random = _state(module), _random(replica.device)
        given = [(t, t._version) for t in tensors(inputs)]
        first = task.forward(module, inputs)
        second = task.forward(module, inputs)
        if not torch.equal(random, _random(replica.device)):
            return say("its forward draws random numbers")
        if any(t._version != version for t, version in given):
            return say("its forward writes into its inputs")
        if _state(module) != before:
            return say("its forward changes the module's own state")
    if not tensors(first):
        return say("its outputs hold no tensors that could be compared")
    same = [torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(tensors(first), tensors(second), strict=True)]
    if not all(same):
        return say("its outputs differ from run to run")
    return "" if replica.layered is not None or _follows(task, replica, module, inputs) else say("its forward keeps what it made of its weights")


def _follows(task: Task, replica: Replica, used: nn.Module, inputs: Any) -> bool:
    """Whether a module that has run before gives what a new one gives when its weights change."""
    own = dict(used.named_parameters(remove_duplicate=False))
    with replica.weights(_stirred(replica)) as module:
        for name, one in dict(module.named_parameters()).items():
            own[name].data = one.data
        expected, found = (task.forward(one, inputs) for one in (share(module), used))
    return _alike(expected, found, replica.dtype)


def _alike(expected: Any, found: Any, dtype: torch.dtype | None) -> bool:
    """Whether outputs are as near as a replay has to be; what is not finite tells nothing."""
    return not all(bool(t.isfinite().all()) for t in tensors(expected)) or difference(expected, found) <= tolerance(dtype)


def _standing(module: nn.Module) -> bool:
    """Modules that stay one node of the graph."""
    own = type(module).__module__.startswith(("explorer.models", "torch.nn"))
    return own and not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Transformer, nn.TransformerDecoder))


@torch.no_grad()
def _graph(subject: Subject, replica: Replica, two: Any, inputs: Any, batch: int, folding: bool, split: bool, fused: bool) -> Graph | str:
    """The module's graph, or why it is not faithful."""
    args = inputs if isinstance(inputs, (tuple, list)) else () if isinstance(inputs, dict) else (inputs,)
    given = Call(tuple(args), dict(inputs) if isinstance(inputs, dict) else {})
    constants, graph = trace(share(subject.module), given, _standing, own=True)
    constants.to(replica.device, replica.dtype)

    find = partial(fetch, (replica.module, constants))
    inplace = expand.out_of_place(graph, find)
    if replica.device.type == "cpu":
        expand.pools(graph, find)
    with replica.weights({}) as module:
        reference, sizes = watched(module, partial(subject.task.forward, module, inputs))

    def by_hand(name: str, module: Any, layer: int) -> bool:
        return name in sizes and replica.layered is None and recurrent_pace.by_hand(module, layer, *sizes[name], batch)

    rewritten = split and expand.split_stacks(graph, find, by_hand)
    if folding and not expand.fold(graph, find):
        return "nothing to fold"
    if split and replica.device.type == "cpu" and replica.layered is None and metrics_of(subject.task.kind).apart(subject.task):
        rewritten |= column_major.lay(graph, find)  # not for a score of the user's own, which may want outputs to lie as they do
    if fused and not fuse(graph, find):
        return "nothing to fuse"
    with replica.weights({}) as module:
        for one in inplace:
            one.inplace = False  # type: ignore[assignment]
        found = Graph(replica.module, graph, constants, {id(one): name for name, one in replica.names.items()})
        profiles = [_profile(found, given) for given in (two, inputs)]
        faithful = isinstance(profiles[0], dict) and isinstance(profiles[1], dict)
        faithful = faithful and difference(reference, profiles[1][found.nodes[-1]]) <= tolerance(replica.dtype)  # type: ignore[index]
        if faithful and inplace:
            faithful = difference(reference, subject.task.forward(module, inputs)) == 0
        if faithful:
            with replica.weights(_stirred(replica)):  # a trace keeps what it computed from weights itself
                again = _profile(found, inputs)
                faithful = isinstance(again, dict) and _alike(subject.task.forward(module, inputs), again[found.nodes[-1]], replica.dtype)
        if not faithful:
            for one in inplace:
                one.inplace = True  # type: ignore[assignment]
            return (
                profiles[1]
                if isinstance(profiles[1], str)
                else say("its traced graph gives other outputs than the module")
            )
    found.choose_join(profiles, (2, 3))  # type: ignore[arg-type]
    found.rewritten, found.fused = rewritten or folding or fused, fused
    return found


def _profile(graph: Graph, inputs: Any) -> dict[Any, Any] | str:
    """Every node's value on some inputs; or a message where a node writes into a value that others may read."""
    runner = GraphRunner.__new__(GraphRunner)
    runner.graph = graph
    values: dict[Any, Any] = dict(zip(graph.inputs, runner.bind(inputs), strict=True))
    for node in graph.nodes:
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        before = [(t, t._version) for t in tensors([values[a] for a in node.all_input_nodes])]
        if node.op == "call_module":
            values[node] = graph.fetch(str(node.target))(*args, **kwargs)
        elif node.op == "call_function":
            values[node] = node.target(*args, **kwargs)
        elif node.op == "call_method":
            values[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        elif node.op == "get_attr":
            values[node] = graph.fetch(str(node.target))
        else:
            values[node] = args[0]
        if any(t._version != version for t, version in before):
            return say("{operation} writes into its input", operation=node.name)
    return values
