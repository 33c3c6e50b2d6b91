"""How convolutions start units: plain, depthwise, grouped and transposed; as modules and as functions on parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from ..core.message import say
from .flow_functions import name_of
from .layers import TRANSPOSED

if TYPE_CHECKING:
    from .flow import Flow, Marks


@dataclass(frozen=True)
class Convolution:
    """One call. weight, bias: FQNs. counts: FQN of the number of groups where removal may change it, "" where a forward
    takes it from its input, None where it is written in the forward."""

    name: str
    weight: str
    bias: str | None
    shape: tuple[int, ...]
    groups: int
    transposed: bool
    counts: str | None

    @property
    def channels(self) -> tuple[int, int]:
        """Channels in and out of one of the groups."""
        first, second = self.shape[:2]
        return (first // self.groups, second) if self.transposed else (second, first // self.groups)

    @property
    def dims(self) -> tuple[int, int]:
        """The weight's dims of channels in and out."""
        return (0, 1) if self.transposed else (1, 0)


def convolution(flow: Flow, name: str, module: Any, node: fx.Node, value: Tensor) -> Marks:
    source = node.args[0] if node.args else next(iter(node.kwargs.values()))
    prefix = f"{name}." if name else ""
    bias = prefix + "bias" if module.bias is not None else None
    shape, transposed = tuple(module.weight.shape), isinstance(module, TRANSPOSED)
    call = Convolution(name, prefix + "weight", bias, shape, module.groups, transposed, prefix + "groups")
    return follow(flow, call, flow.value(source), flow.of(source), value)


def function(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    """F.conv2d and its kin, on parameters of the model."""
    transposed = "transpose" in name_of(node.target)
    last = ("output_padding", "groups") if transposed else ("dilation", "groups")
    named = flow.operands(node, ("input", "weight", "bias", "stride", "padding", *last))
    if named is None:
        return []
    weight, bias, groups = named["weight"], named.get("bias"), named.get("groups", 1)
    name, shape = str(weight.target), tuple(flow.value(weight).shape)
    shift = str(bias.target) if isinstance(bias, fx.Node) else None
    counts = "" if isinstance(groups, fx.Node) else None
    call = Convolution(name, name, shift, shape, int(flow.value(groups)), transposed, counts)
    own_units = flow.of(weight), flow.of(bias) if isinstance(bias, fx.Node) else []
    return follow(flow, call, flow.value(named["input"]), flow.of(named["input"]), value, *own_units)


def follow(
    flow: Flow, call: Convolution, before: Tensor, marks: Marks, value: Tensor, weight: Marks | None = None, bias: Marks | None = None
) -> Marks:  # fmt: skip
    """Marks of the output. weight, bias: marks of these where they are values of the graph themselves."""
    dim = 1 if value.ndim == len(call.shape) else 0  # unbatched inputs have no batch dim
    inputs = flow.along(marks, dim)
    rest = flow.without(
        [m for m in marks if m.shape[dim] == 1],
        range(dim + 1, value.ndim),
        say("its units pass through {name}", name=call.name),
    )
    (per_in, per_out), (in_dim, out_dim), ledger = call.channels, call.dims, flow.ledger
    held = {d: flow.along([m for m in weight or [] if m.shape[d] > 1], d) for d in (0, 1)}

    def own(d: int, role: str, ids: Tensor) -> None:
        if held[d] is not None:  # the parameter's entries are units already
            ledger.unite(held[d], ids.reshape(-1))  # type: ignore[arg-type]
        ledger.own(call.weight, d, role, ids)

    if call.groups == 1:
        if inputs is not None:
            own(in_dim, "consumer", inputs)
        elif held[in_dim] is not None:
            ledger.block(held[in_dim], say("they are combined with values that stay"))  # type: ignore[arg-type]
        outputs = _fresh(flow, call, per_out)
        own(out_dim, "producer", outputs)
    elif per_in == per_out == 1 and inputs is None:
        return rest
    elif inputs is not None and call.counts is not None and (per_in == 1 or call.groups > per_in):
        outputs = _whole_groups(flow, call, inputs, own)
    else:
        outputs = _same_positions(flow, call, inputs, own)
    if call.bias is not None:
        if bias and (shifts := flow.along(bias, 0)) is not None:
            ledger.unite(shifts, outputs)
        ledger.own(call.bias, 0, "follower", outputs)
    placed = [1] * value.ndim
    placed[dim] = -1
    return [*rest, outputs.view(placed)]


def _fresh(flow: Flow, call: Convolution, n: int) -> Tensor:
    if call.name not in flow.states:
        flow.states[call.name] = flow.ledger.fresh(n)
    found: Tensor = flow.states[call.name]
    return found


def _whole_groups(flow: Flow, call: Convolution, inputs: Tensor, own: Any) -> Tensor:
    """A unit is a group: what it reads, its filters, what it writes. Depthwise filters simply go with their channel."""
    per_in, per_out = call.channels
    read = inputs.view(call.groups, per_in)
    for channels in read:
        flow.ledger.unite_all(channels)
    units = read[:, 0]
    written = units.repeat_interleave(per_out)
    if call.transposed:
        own(0, "follower" if per_out == 1 else "producer", inputs)
    else:
        own(0, "follower" if per_in == per_out == 1 else "producer", written)
    if call.counts:
        flow.ledger.own(call.counts, 0, "attribute", units)
    if per_in * per_out > 1:
        flow.ledger.notes[call.weight] = say(
            "a unit is one of the {groups} groups of {layer}, whole", groups=call.groups, layer=call.name
        )
    return written


def _same_positions(flow: Flow, call: Convolution, inputs: Tensor | None, own: Any) -> Tensor:
    """Groups stay equally wide: a unit is the same position within each group, on either side."""
    per_in, per_out = call.channels
    (in_dim, out_dim), groups = call.dims, call.groups
    if inputs is not None:
        read = inputs.view(groups, per_in)
        for other in read[1:]:
            flow.ledger.unite(read[0], other)
        own(in_dim, "consumer", inputs if call.transposed else read[0])
    units = _fresh(flow, call, per_out)
    written = units.repeat(groups)
    own(out_dim, "producer", units if call.transposed else written)
    flow.ledger.notes[call.weight] = say(
        "a unit is the same position in each of the {groups} groups of {layer}", groups=groups, layer=call.name
    )
    return written


FUNCTIONS = frozenset("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split())
