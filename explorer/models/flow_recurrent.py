"""How recurrent modules, their states and packed sequences pass units on.

Hidden unit k of a layer and direction owns rows k + g * H of every gate g, its column of weight_hh, and a column of
what reads the layer. States of several layers come as one tensor [layers * directions, N, H]: where a forward takes
them one by one, each layer has units of its own; where it uses the tensor as a whole, all layers must keep the same
size, so that unit k of one goes with unit k of the others.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.rnn import PackedSequence

from ..core.message import say
from .flow_attention import fresh, own
from .stack import RecurrentStack

if TYPE_CHECKING:
    from .flow import Flow, Marks

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN, RecurrentStack)
CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def _placed(ids: Tensor, rank: int) -> Tensor:
    return ids.view(*[1] * (rank - 1), -1)


def _source(node: fx.Node) -> Any:
    return node.args[0] if node.args else node.kwargs["input"]


def recurrent(flow: Flow, name: str, module: Any, node: fx.Node, value: Any) -> Any:
    """(marks of the output, of the state); an LSTM's state is a pair. Packed data is [sum of lengths, features]."""
    outputs, final = value
    packed = isinstance(outputs, PackedSequence)
    rank = 2 if packed else outputs.ndim
    inputs = flow.along(_inputs(flow, name, node), -1)
    units: list[tuple[Tensor, Tensor]] = []  # (emitted, hidden) of each layer and direction
    for layer in range(module.num_layers):
        tags = [f"l{layer}{suffix}" for suffix in ("", "_reverse")[: 1 + module.bidirectional]]
        pairs = [_layer(flow, name, module, tag, inputs) for tag in tags]
        inputs = torch.cat([emitted for emitted, _ in pairs])
        units += pairs
    assert inputs is not None
    pair = isinstance(final, tuple) and (isinstance(module, nn.LSTM) or getattr(module, "mode", "") == "LSTM")
    columns = list(zip(*units, strict=True)) if pair else [[emitted for emitted, _ in units]]
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("hx")
    _initial(flow, name, given, columns)
    whole = {k for k, used in _taken(node, pair) if any(not _one_by_one(flow, user, used) for user in used.users)}
    states = []
    for k, column in enumerate(columns):
        if k in whole:
            _equal(flow, column)
        states.append(_state(list(column), 3 if packed else rank, k in whole))
    return ([_placed(inputs, rank)], tuple(states) if pair else states[0])


def _inputs(flow: Flow, name: str, node: fx.Node) -> Marks:
    """Marks of the input; what runs along time or the batch cannot go."""
    marks = flow.of(_source(node))
    return (
        flow.without(
            marks, range(-marks[0].ndim, -1), say("they stand along the time or the batch of {name}", name=name)
        )
        if marks
        else []
    )


def _layer(flow: Flow, name: str, module: Any, tag: str, inputs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Units of one layer and direction: (what it emits, its hidden ones), the same without a projection."""
    rows, width = getattr(module, f"weight_hh_{tag}").shape
    projected = hasattr(module, f"weight_hr_{tag}")
    size = getattr(module, f"weight_hr_{tag}").shape[1] if projected else width
    hidden = fresh(flow, f"{name}.{tag}", size)
    emitted = fresh(flow, f"{name}.{tag}.proj", width) if projected else hidden
    _gates(flow, name, module, f"_{tag}", hidden.repeat(rows // size), inputs, emitted)
    if projected:
        own(flow, name, module, f"weight_hr_{tag}", 0, "producer", emitted)
        own(flow, name, module, f"weight_hr_{tag}", 1, "consumer", hidden)
    return emitted, hidden


def _gates(
    flow: Flow, name: str, module: Any, tag: str, rows: Tensor, inputs: Tensor | None, emitted: Tensor
) -> None:  # fmt: skip
    """The tensors of a layer or a cell: gate rows, biases, columns that read the input and the state."""
    for tensor in ("weight_ih", "weight_hh"):
        own(flow, name, module, f"{tensor}{tag}", 0, "producer", rows)
    for tensor in ("bias_ih", "bias_hh"):
        own(flow, name, module, f"{tensor}{tag}", 0, "follower", rows)
    own(flow, name, module, f"weight_ih{tag}", 1, "consumer", inputs)
    own(flow, name, module, f"weight_hh{tag}", 1, "consumer", emitted)


def cell(flow: Flow, name: str, module: Any, node: fx.Node, value: Any) -> Any:
    """One step of a recurrent cell; its state comes back in, so both are the same units."""
    hidden = fresh(flow, name, module.hidden_size)
    rows = hidden.repeat(module.weight_hh.shape[0] // module.hidden_size)
    _gates(flow, name, module, "", rows, flow.along(_inputs(flow, name, node), -1), hidden)
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("hx")
    if isinstance(value, tuple):
        _initial(flow, name, given, [[hidden], [hidden]])
        return tuple([_placed(hidden, v.ndim)] for v in value)
    _initial(flow, name, given, [[hidden]])
    return [_placed(hidden, value.ndim)]


def _state(column: list[Tensor], rank: int, equal: bool) -> Any:
    """Marks of h_n or c_n: each row of the first dim has its own units, unless all keep the same size."""
    if len({len(ids) for ids in column}) > 1:  # a stack's, with a tensor a layer and direction
        return tuple([_placed(ids, rank - 1)] for ids in column)
    table = torch.stack(column[:1] if equal else column)  # [layers * directions, H]
    return [table.view(len(table), *[1] * (rank - 2), -1)]


def _equal(flow: Flow, column: Any) -> None:
    """All layers and directions keep the same size: unit k of each goes with unit k of the others."""
    for ids in column[1:]:
        if len(ids) == len(column[0]):
            flow.ledger.unite(column[0], ids)
        else:
            flow.block([[column[0], ids]], say("they are combined with a state of another size"))


def _taken(node: fx.Node, pair: bool) -> Iterator[tuple[int, fx.Node]]:
    """(0 for h, 1 for c; the node that takes it out of what the module returned)."""
    for state in node.users:
        if state.target is operator.getitem and state.args[1] in (1, -1):
            if not pair:
                yield 0, state
            for one in state.users if pair else ():
                if one.target is operator.getitem and one.args[0] is state and isinstance(one.args[1], int):
                    yield one.args[1] % 2, one


def _one_by_one(flow: Flow, user: fx.Node, state: fx.Node) -> bool:
    """Whether a use of a state works where its layers have different sizes."""
    if user.target is operator.getitem:
        return user.args[0] is state and isinstance(user.args[1], int)
    return (
        user.op == "call_module"
        and isinstance(flow.fetch_attr(str(user.target)), RECURRENT)
        and _source(user) is not state
    )


def _initial(flow: Flow, name: str, given: Any, columns: Any) -> None:
    """Units of the states that are passed in meet the module's own; columns: [units of each layer] for h and for c."""
    if given is None:
        return
    known, values = flow.marks.get(given) if isinstance(given, fx.Node) else None, flow.value(given)
    parts = given if isinstance(given, (tuple, list)) else None
    for position, column in enumerate(columns):
        one = values[position] if len(columns) > 1 else values
        source = parts[position] if parts is not None and len(columns) > 1 else given
        if parts is None and len(columns) > 1:  # a pair that another module returned
            marks = known[position] if isinstance(known, tuple) else None
        else:
            marks = flow.marks.get(source, []) if isinstance(source, fx.Node) else None
        if marks is None and one is not None:
            flow.block([list(column)], say("the initial state of {name} cannot be followed", name=name))
        elif isinstance(marks, tuple):  # one tensor a layer and direction
            for found, ids in zip(marks, column, strict=True):
                _meet(flow, name, found, [ids])
        elif isinstance(one, Tensor):
            _meet(flow, name, marks or [], list(column))
            if not _from_recurrent(flow, source):
                _equal(flow, column)  # one tensor for all layers has one size
        else:
            flow.block([list(column)], say("the initial state of {name} cannot be followed", name=name))


def _meet(flow: Flow, name: str, marks: Marks, column: list[Tensor]) -> None:
    """Units along the last dim meet those of each layer; a state without units is left to the trial removal."""
    for mark in marks:
        inner = [d for d in range(mark.ndim - 1) if mark.shape[d] > 1 and not (d == 0 and mark.shape[0] == len(column))]
        if mark.shape[-1] == 1 or inner:
            flow.block([mark], say("they are the initial state of {name}, along its layers or its batch", name=name))
            continue
        rows = mark.reshape(-1, mark.shape[-1])
        for i, ids in enumerate(column):
            flow.ledger.unite(rows[i if len(rows) > 1 else 0], ids)


def _from_recurrent(flow: Flow, node: Any) -> bool:
    """Whether a state is handed on as another module returned it, in whatever form."""
    while isinstance(node, fx.Node) and node.target is operator.getitem:
        node = node.args[0]
    return (
        isinstance(node, fx.Node)
        and node.op == "call_module"
        and isinstance(flow.fetch_attr(str(node.target)), RECURRENT)
    )


def pack(flow: Flow, node: fx.Node, value: PackedSequence) -> Marks:
    """pack_padded_sequence: [N, T, F] -> data [sum of lengths, F]."""
    marks = _inputs(flow, "a packed sequence", node)
    ids = flow.along(marks, -1)
    return [] if ids is None else [_placed(ids, 2)]


def packed(flow: Flow, node: fx.Node, value: PackedSequence) -> Marks:
    """PackedSequence(data, ...) as its data."""
    return flow.of(node.args[0])


def pad(flow: Flow, node: fx.Node, value: Any) -> Any:
    """pad_packed_sequence: (padded data [N, T, F], lengths)."""
    source = node.args[0] if node.args else node.kwargs["sequence"]
    ids = flow.along(flow.of(source), -1)
    return ([] if ids is None else [_placed(ids, 3)], [])


def attribute(flow: Flow, node: fx.Node, value: Any) -> Any:
    """getattr: data of a packed sequence and transposed views carry units, sizes and types do not."""
    source, name = node.args[0], str(node.args[1])
    before, marks = flow.value(source), flow.of(source)
    held = flow.marks.get(source) if isinstance(source, fx.Node) else None
    if isinstance(held, tuple) and name in ("values", "indices"):  # of torch.max and torch.min over a dim
        return held[("values", "indices").index(name)]
    if isinstance(before, PackedSequence):
        return marks if name == "data" else []
    if isinstance(before, Tensor) and isinstance(value, Tensor) and marks:
        if name in ("T", "mT", "H", "mH"):
            return flow.moved(before, marks, lambda m: getattr(m, name))
        flow.block(marks, say("its units pass through .{name}", name=name))
    return []
