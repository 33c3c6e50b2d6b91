"""Operators of a program that use all tensors of one level of names -> the layer of torch.nn that they came from.

A program calls ``aten.linear(x, fc1.weight, fc1.bias)``; as ``fc1 = nn.Linear(...)`` it computes the same, by the same kernel, and is
a layer to everything that looks for layers: kinds, units, criteria, quantized activations.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

aten = torch.ops.aten
ZEROS = (aten.zeros.default, aten.new_zeros.default, aten.zeros_like.default)
CONVOLUTIONS: dict[Any, Any] = {
    aten.conv1d.default: nn.Conv1d,
    aten.conv2d.default: nn.Conv2d,
    aten.conv3d.default: nn.Conv3d,
}
BATCH_NORMS: dict[Any, type[nn.Module]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}  # by the rank of the input
RECURRENT: dict[Any, tuple[Any, dict[str, Any]]] = {
    aten.lstm.input: (nn.LSTM, {}), aten.gru.input: (nn.GRU, {}), aten.rnn_tanh.input: (nn.RNN, {}), aten.rnn_relu.input: (nn.RNN, {"nonlinearity": "relu"}),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Layer:
    """owner: FQN of the level. tensors: {its name there: node}. key: by which two calls are of one layer. make: the empty one.
    argument: which of the operator's it is called with."""

    owner: str
    tensors: Mapping[str, fx.Node]
    key: tuple[Any, ...]
    make: Callable[[], nn.Module]
    argument: int = 0


def raise_layers(root: nn.Module, graph: fx.Graph) -> None:
    """Put layers into ``root`` in the place of levels of names, and calls of them into ``graph``, in place.

    What does not match exactly (a level with other tensors, one used in two ways) stays as it is.
    """
    _free_counts(graph)
    found: dict[fx.Node, Layer] = {}
    for node in graph.nodes:
        if node.op == "call_function" and (layer := _layer(root, node)) is not None:
            found[node] = layer
    uses: dict[str, set[tuple[Any, ...]]] = {}
    for layer in found.values():
        uses.setdefault(layer.owner, set()).add(layer.key)
    for node, layer in found.items():
        kinds = uses[layer.owner]
        if (
            len(kinds) == 1 or layer.key[0] == aten.embedding.default and sum(k[0] == layer.key[0] for k in kinds) == 1
        ):  # tied to a product
            _replace(root, graph, node, layer)
    for node in reversed(list(graph.nodes)):  # parameters and zero states that nothing reads now
        if (
            node.op in ("get_attr", "call_function")
            and not node.users
            and (node.op == "get_attr" or node.target in (*ZEROS, operator.getitem, aten.sym_size.int))
        ):
            graph.erase_node(node)


def _free_counts(graph: fx.Graph) -> None:
    """Where features are split into (heads, width) or joined again, the number that units can change is left to be worked out."""
    for node in graph.nodes:
        sizes = node.args[0].meta.get("sizes", ()) if node.args and isinstance(node.args[0], fx.Node) else ()
        if node.target == aten.unflatten.int:
            _, dim, parts = node.args
            if (
                len(parts) == 2
                and parts[1] == -1
                and type(parts[0]) is int
                and parts[0] > 0
                and -len(sizes) <= dim < len(sizes)
                and type(sizes[dim]) is int
                and sizes[dim] % parts[0] == 0
            ):
                node.args = (node.args[0], dim, [-1, sizes[dim] // parts[0]])
        elif node.target in (aten.view.default, aten.reshape.default, aten._unsafe_view.default):
            shape = list(node.args[1])
            at = (
                len(shape) - 2
                if len(shape) == len(sizes) + 1
                else len(shape) - 1
                if len(shape) == len(sizes) - 1
                else None
            )
            if at is not None and at > 0 and -1 not in shape and type(shape[at]) is int:
                shape[at] = -1
                node.args = (node.args[0], shape)


def _layer(root: nn.Module, node: fx.Node) -> Layer | None:
    kind = node.target
    given: dict[str, Any] = (
        {
            a.name: (node.args[i] if i < len(node.args) else node.kwargs.get(a.name, a.default_value))
            for i, a in enumerate(kind._schema.arguments)
        }
        if hasattr(kind, "_schema")
        else {}
    )
    if kind in RECURRENT:
        return _recurrent(root, node, given)
    names = [name for name in ("weight", "bias", "running_mean", "running_var") if isinstance(given.get(name), fx.Node)]
    if not names or "weight" not in names:
        return None
    tensors = {name: given[name] for name in names}
    owner = _owner(root, tensors)
    made = None if owner is None else _made(kind, given, _shape(root, given["weight"]), "bias" in tensors)
    if owner is None or made is None:
        return None
    make, key = made
    return Layer(owner, tensors, key, make, 1 if kind == aten.embedding.default else 0)


def _made(
    kind: Any, given: Mapping[str, Any], shape: tuple[int, ...], bias: bool
) -> tuple[Callable[[], nn.Module], tuple[Any, ...]] | None:
    """What makes the layer, without memory, and what it is known by."""
    if kind == aten.linear.default and len(shape) == 2:
        return (lambda: nn.Linear(shape[1], shape[0], bias=bias, device="meta")), (kind,)
    if kind == aten.embedding.default and not given["scale_grad_by_freq"] and not given["sparse"]:
        pad = given["padding_idx"]
        return (lambda: nn.Embedding(shape[0], shape[1], padding_idx=None if pad < 0 else pad, device="meta")), (
            kind,
            pad,
        )
    if kind in CONVOLUTIONS:
        rank, groups = len(shape) - 2, given["groups"]
        sizes = [
            tuple(given[name]) * (rank if len(given[name]) == 1 else 1) for name in ("stride", "padding", "dilation")
        ]
        made = CONVOLUTIONS[kind]
        return (
            lambda: made(shape[1] * groups, shape[0], shape[2:], *sizes, groups=groups, bias=bias, device="meta")
        ), (kind, *sizes, groups)
    if kind == aten.layer_norm.default and bias and list(given["normalized_shape"]) == list(shape):
        eps = given["eps"]
        return (lambda: nn.LayerNorm(shape, eps=eps, device="meta")), (kind, eps)
    if (
        kind == aten.batch_norm.default
        and not given["training"]
        and all(isinstance(given[n], fx.Node) for n in ("running_mean", "running_var", "bias"))
    ):
        eps, norm = given["eps"], BATCH_NORMS.get(len(given["input"].meta.get("sizes", ())))
        return None if norm is None else ((lambda: norm(shape[0], eps=eps, device="meta")), (kind, eps, norm))
    return None


def _recurrent(root: nn.Module, node: fx.Node, given: Mapping[str, Any]) -> Layer | None:
    states = given["hx"] if isinstance(given["hx"], (list, tuple)) else [given["hx"]]
    zero = all(isinstance(one, fx.Node) and one.target in ZEROS for one in states)
    params, layers, both = given["params"], given["num_layers"], given["bidirectional"]
    if not zero or given["train"] or not all(isinstance(one, fx.Node) and one.op == "get_attr" for one in params):
        return None
    each = (2 + 2 * bool(given["has_biases"])) * (
        1 + bool(both)
    )  # and one more a direction, where there are projections
    if len(params) not in (layers * each, layers * (each + 1 + bool(both))):
        return None
    names = {str(one.target).rpartition(".")[2]: one for one in params}
    owner = _owner(root, names)
    if owner is None or not {"weight_ih_l0", "weight_hh_l0"} <= set(names):
        return None
    cls, more = RECURRENT[node.target]
    hidden, size = _shape(root, names["weight_hh_l0"])[1], _shape(root, names["weight_ih_l0"])[1]
    if "weight_hr_l0" in names:
        more = {"proj_size": hidden}
        hidden = _shape(root, names["weight_hr_l0"])[1]
    settings = {
        "num_layers": layers,
        "bias": given["has_biases"],
        "batch_first": given["batch_first"],
        "bidirectional": both,
        **more,
    }

    def make() -> Any:
        return cls(size, hidden, device="meta", **settings)

    if [name for one in make()._all_weights for name in one] != list(names):
        return None
    if node.target == aten.lstm.input:
        for user in list(node.users):
            if user.target is not operator.getitem:
                return None
    return Layer(owner, names, (node.target, *sorted(settings.items())), make)


def _owner(root: nn.Module, tensors: Mapping[str, Any]) -> str | None:
    """The level that holds exactly these tensors under these names, and nothing else but a counter of batches."""
    owners = {str(node.target).rpartition(".")[0] for node in tensors.values() if node.op == "get_attr"}
    if len(owners) != 1 or any(
        node.op != "get_attr" or str(node.target).rpartition(".")[2] != name for name, node in tensors.items()
    ):
        return None
    (owner,) = owners
    if not owner:
        return None
    level = root.get_submodule(owner)
    held = {*level._parameters, *level._buffers} - {"num_batches_tracked"}
    return owner if held == set(tensors) and not level._modules else None


def _shape(root: nn.Module, node: fx.Node) -> tuple[int, ...]:
    owner, _, name = str(node.target).rpartition(".")
    return tuple(getattr(root.get_submodule(owner), name).shape)


def _replace(root: nn.Module, graph: fx.Graph, node: fx.Node, layer: Layer) -> None:
    parent, _, name = layer.owner.rpartition(".")
    level = root.get_submodule(layer.owner)
    if not type(level).__module__.startswith("torch.nn"):  # else another call of it put the layer there
        made = layer.make().eval()
        if "num_batches_tracked" not in level._buffers:
            made._buffers.pop("num_batches_tracked", None)
        for own, held in ((made._parameters, level._parameters), (made._buffers, level._buffers)):
            for key in list(own):
                own[key] = held.get(key)  # type: ignore[index, assignment]
        if isinstance(made, nn.RNNBase):
            made._init_flat_weights()
        root.get_submodule(parent)._modules[name] = made
    with graph.inserting_before(node):
        called = graph.call_module(layer.owner, (node.args[layer.argument],))
        if node.target == aten.lstm.input:  # (output, h, c) there, (output, (h, c)) here
            state = graph.call_function(operator.getitem, (called, 1))
            for user in list(node.users):
                index = int(user.args[1])  # type: ignore[arg-type]
                new = graph.call_function(operator.getitem, (called, 0) if index == 0 else (state, index - 1))
                user.replace_all_uses_with(new)
                graph.erase_node(user)
            if not state.users:
                graph.erase_node(state)
    node.replace_all_uses_with(called)
    graph.erase_node(node)
