"""nn.LSTM, GRU and RNN in a graph: cut between layers, directions, and what the input contributes to the gates, before any step.

That product depends on ``weight_ih`` alone, so where ``weight_hh`` changes it is kept. Steps are a product and one compiled loop each; where torch's kernel is
as fast on this machine (:mod:`.recurrent_pace`) a layer stays a call of it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

KERNELS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}
KINDS = (nn.LSTM, nn.GRU, nn.RNN)
NARROW = 16  # inputs up to which a step computes what they contribute no slower than it would read it from beyond the core's cache


def recurrent_layer(
    x: Tensor, state: Any, weights: list[Tensor], mode: str, bias: bool, both: bool, batch_first: bool, layer: int
) -> tuple[Tensor, Any]:
    """One layer of nn.LSTM, GRU or RNN by the same kernel: (output, (h, c) or h). state: of all layers, or None."""
    directions = 1 + both
    rows = slice(layer * directions, (layer + 1) * directions)
    given = state if mode == "LSTM" or state is None else (state,)
    if given is None:
        batch = x.shape[0 if batch_first else 1]
        h = x.new_zeros(directions, batch, weights[1].shape[1])  # a projection's size where there is one
        own = [h, x.new_zeros(directions, batch, weights[1].shape[0] // 4)] if mode == "LSTM" else [h]
    else:
        own = [one[rows].contiguous() for one in given]
    hx = tuple(own) if mode == "LSTM" else own[0]
    found = getattr(torch, KERNELS[mode])(x, hx, weights, bias, 1, 0.0, False, both, batch_first)
    return found[0], tuple(found[1:]) if mode == "LSTM" else found[1]


def recurrent_states(out: Tensor, states: list[Any], mode: str) -> tuple[Tensor, Any]:
    """(output, final states of all layers) as the whole stack returns them."""
    if mode == "LSTM":
        return out, (torch.cat([one[0] for one in states]), torch.cat([one[1] for one in states]))
    return out, torch.cat(states)


def of_input(x: Tensor, weight: Tensor, batch_first: bool) -> Tensor:
    """What an input [N, T, I] contributes to the gates of every step, [N, T, G] (or T before N), step by step in memory."""
    steps = x.transpose(0, 1) if batch_first else x
    found, turned = x.new_empty(*steps.shape[:2], len(weight)), weight.T.contiguous()
    for read, to in zip(
        steps.unbind(0), found.unbind(0), strict=True
    ):  # by the products of ``straight``, to the last bit
        torch.mm(read, turned, out=to)
    return found.transpose(0, 1) if batch_first else found


def stepped(
    read: Tensor,
    state: Any,
    weight: Tensor,
    bias: tuple[Any, Any],
    mode: str,
    batch_first: bool,
    place: int,
    back: bool,
) -> tuple[Tensor, Any]:
    """One direction of one layer from what its input contributes: (output, (h, c) or h), these with a dim of one in front.

    state: of all layers and directions, or None; place: this one's there; back: from the last step to the first. bias: of input and state, or None.
    """
    steps = (read.transpose(0, 1) if batch_first else read).contiguous()
    reads = (one.numpy() for one in _in_order(steps, back))
    return _run(reads, steps, state, weight, bias, mode, batch_first, place, back)


def straight(
    x: Tensor,
    weight_ih: Tensor,
    _: bool,
    state: Any,
    weight: Tensor,
    bias: tuple[Any, Any],
    mode: str,
    batch_first: bool,
    place: int,
    back: bool,
) -> tuple[Tensor, Any]:
    """:func:`stepped` of :func:`of_input`, the same bits: a step finds in the core's cache what its input contributes."""
    steps = x.transpose(0, 1) if batch_first else x

    def reads() -> Iterator[Any]:
        room, turned = x.new_empty(steps.shape[1], len(weight_ih)), weight_ih.T.contiguous()
        there = room.numpy()
        for one in _in_order(steps, back):
            torch.mm(one, turned, out=room)
            yield there

    return _run(reads(), steps, state, weight, bias, mode, batch_first, place, back)


def _in_order(steps: Tensor, back: bool) -> Iterator[Tensor]:
    return reversed(steps.unbind(0)) if back else iter(steps.unbind(0))


def _run(
    reads: Iterator[Any],
    like: Tensor,
    state: Any,
    weight: Tensor,
    bias: tuple[Any, Any],
    mode: str,
    batch_first: bool,
    place: int,
    back: bool,
) -> tuple[Tensor, Any]:
    """reads: what the input contributes to each step, in their order; like: [T, N, ...]."""
    from ..analysis import cell_loops as does  # numba takes a moment to import

    many, batch, size = like.shape[0], like.shape[1], weight.shape[1]
    said, own = weight.new_empty(many + 1, batch, size), weight.new_empty(batch, len(weight))
    states = list(_in_order(said, back))  # before the first step, and after each
    given: Any = (None, None) if state is None else state if mode == "LSTM" else (state,)
    states[0].fill_(0) if given[0] is None else states[0].copy_(given[0][place])
    c = said.new_zeros(batch, size) if mode != "LSTM" or given[1] is None else given[1][place].clone()
    added, more = (weight.new_zeros(len(weight)) if one is None else one.detach() for one in bias)
    turned, mine, memory, found = weight.T.contiguous(), own.numpy(), c.numpy(), [one.numpy() for one in states]
    first, second = (added.numpy(), more.numpy()) if mode == "GRU" else ((added + more).numpy(), None)
    for t, read in enumerate(reads):
        torch.mm(states[t], turned, out=own)
        if mode == "LSTM":
            does.lstm_step(read, mine, first, memory, found[t + 1])
        elif mode == "GRU":
            does.gru_step(read, mine, first, second, found[t], found[t + 1])
        else:
            does.rnn_step(read, mine, first, mode == "RNN_RELU", found[t + 1])
    out, last = said[:-1] if back else said[1:], states[-1].clone()[None]
    return out.transpose(0, 1) if batch_first else out, (last, c[None]) if mode == "LSTM" else last


def both_ways(ways: list[tuple[Tensor, Any]], mode: str) -> tuple[Tensor, Any]:
    """(output, final states) of a layer from those of its directions."""
    return recurrent_states(torch.cat([one[0] for one in ways], -1), [one[1] for one in ways], mode)


def swallowed(needed: Collection[fx.Node], asked: Collection[fx.Node]) -> set[fx.Node]:
    """Of nodes that are computed together, the contributions of inputs that a step alone reads: it computes them itself."""
    return {
        node for node in needed
        if node.target is of_input and node not in asked and len(node.users) == 1 and all(user.target is stepped and user in needed for user in node.users)
    }  # fmt: skip


def split(graph: fx.Graph, node: fx.Node, module: Any, by_hand: Callable[[int], bool]) -> fx.Node:
    """A recurrent module's call as those of its layers. by_hand: whether a layer's steps are computed here."""
    x: Any
    x, *rest = node.args
    hx = rest[0] if rest else node.kwargs.get("hx")
    per, states = len(module._flat_weights_names) // module.num_layers, []
    for layer in range(module.num_layers):
        names = module._flat_weights_names[layer * per : (layer + 1) * per]
        weights = [graph.get_attr(f"{node.target}.{name}") for name in names]
        if by_hand(layer):
            made = _directions(graph, x, hx, weights, module, layer)
        else:
            settings = (module.mode, module.bias, module.bidirectional, module.batch_first, layer)
            made = graph.call_function(recurrent_layer, (x, hx, weights, *settings))
        if module.num_layers == 1:
            return made
        x = graph.call_function(operator.getitem, (made, 0))
        states.append(graph.call_function(operator.getitem, (made, 1)))
    for user in [one for one in node.users if one.target is operator.getitem]:
        if user.args[1] == 0:
            user.replace_all_uses_with(x)
        if not user.users:  # as the states that a forward gives a name and does not read
            graph.erase_node(user)
    return graph.call_function(recurrent_states, (x, states, module.mode)) if node.users else x  # type: ignore[no-any-return]


def _directions(graph: fx.Graph, x: Any, hx: Any, weights: list[fx.Node], module: Any, layer: int) -> fx.Node:
    ways, count = [], 1 + module.bidirectional
    for i in range(count):
        mine = weights[i * len(weights) // count : (i + 1) * len(weights) // count]
        bias = (mine[2], mine[3]) if module.bias else (None, None)
        rest = (hx, mine[1], bias, module.mode, module.batch_first, layer * count + i, bool(i))
        own = (x, mine[0], module.batch_first)
        if layer == 0 and module.input_size <= NARROW:
            ways.append(graph.call_function(straight, (*own, *rest)))
        else:
            ways.append(graph.call_function(stepped, (graph.call_function(of_input, own), *rest)))
    return ways[0] if count == 1 else graph.call_function(both_ways, (ways, module.mode))


def watched(module: nn.Module, call: Callable[[], Any]) -> tuple[Any, dict[str, tuple[int, int]]]:
    """(what ``call()`` returns, {name of a recurrent module: (steps, inputs) of its batches}), the latter where all is what steps by hand take:
    single precision, batches that are not packed, no projections."""
    seen: dict[str, set[tuple[int, int] | None]] = {}

    def hook(name: str, one: Any) -> Any:
        def look(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else None
            fits = (
                isinstance(x, Tensor) and x.ndim == 3 and x.numel() > 0 and not one.proj_size and set(kwargs) <= {"hx"}
            )
            fits = fits and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, *one.parameters()))
            seen.setdefault(name, set()).add((x.shape[1 if one.batch_first else 0], x.shape[2]) if x is not None and fits else None)

        return look

    kept = [
        one.register_forward_pre_hook(hook(name, one), with_kwargs=True)
        for name, one in module.named_modules()
        if type(one) in KINDS
    ]
    try:
        found = call()
    finally:
        for one in kept:
            one.remove()
    return found, {name: max(size for size in sizes if size) for name, sizes in seen.items() if None not in sizes}
