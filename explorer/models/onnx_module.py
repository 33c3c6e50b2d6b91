"""An ONNX file as a module: its weights are parameters, and its forward runs ONNX Runtime with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import EvaluationError, UnsupportedError
from ..core.message import Message, say
from .onnx_graph import Input, OnnxGraph

NO_GRADIENTS = say(
    "ONNX Runtime computes no gradients, and what its products read cannot be seen; l1, l2 or lamp need neither"
)
NO_UNITS = say(
    "it is a tensor of an ONNX file, whose graph stays as it is: weights can be pruned and quantized, units not; open the PyTorch model for that"
)


class OnnxLayer(nn.Module):
    """One level of dotted names. kinds: {own parameter: kind of layer, None for biases and norms}."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[str, str | None] = {}


class OnnxModule(OnnxLayer):
    """Called with the graph's inputs in order, or by name; answers one tensor, or a tuple of all outputs.

    16-bit outputs come as float32. A graph that states a fixed batch is run piece by piece. It cannot be differentiated.
    Raises :class:`EvaluationError` for inputs that do not fit.
    """

    def __init__(self, graph: OnnxGraph, tensors: Mapping[str, Tensor], buffers: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.graph = graph
        for name, tensor in tensors.items():
            *parents, last = name.split(".")
            owner: OnnxLayer = self
            for atom in parents:
                if atom not in owner._modules:
                    owner._modules[atom] = OnnxLayer()
                owner = owner._modules[atom]  # type: ignore[assignment]
            owner.kinds[last] = graph.kinds[name]
            if name in buffers:
                owner._buffers[last] = tensor
            else:
                owner._parameters[last] = nn.Parameter(tensor, requires_grad=False)
        self.eval()

    def held(self) -> dict[str, Tensor]:
        """{name: tensor} of all parameters and buffers."""
        return dict(self.named_parameters()) | dict(self.named_buffers())

    def weights(self) -> dict[str, np.ndarray]:
        """What the graph's inputs for parameters are given. Raises :class:`UnsupportedError` for half precision."""
        found = {}
        for name, tensor in self.held().items():
            wanted = torch.float64 if self.graph.places[name].dtype == torch.float64 else torch.float32
            if tensor.dtype != wanted and tensor.dtype != torch.float64:
                raise UnsupportedError(
                    say("{name}: {dtype}; an ONNX file is computed in its own types", name=name, dtype=tensor.dtype)
                )
            found[name] = tensor.detach().to("cpu", wanted).contiguous().numpy()
        return found

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """{input: tensor of its type}. Raises :class:`EvaluationError`."""
        wanted = self.graph.inputs
        given = {one.name: value for one, value in zip(wanted, args, strict=False)} | dict(kwargs)
        names = ", ".join(one.name for one in wanted)
        if len(args) > len(wanted) or set(given) != {one.name for one in wanted}:
            raise EvaluationError(
                say("{count} inputs; accepted by the file: {names}", count=len(args) + len(kwargs), names=names)
            )
        return {one.name: _fitting(one, given[one.name]) for one in wanted}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        feed = self.bind(args, kwargs)
        device = next((t.device for t in [*args, *kwargs.values()] if isinstance(t, Tensor)), torch.device("cpu"))
        arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in feed.items()}
        found = [torch.from_numpy(one) for one in self._run(arrays, self.weights())]
        found = [(one.float() if one.dtype == torch.float16 else one).to(device) for one in found]
        return found[0] if len(found) == 1 else tuple(found)

    def _run(self, feed: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> list[np.ndarray]:
        fixed = {one.shape[0] for one in self.graph.inputs if one.shape and one.shape[0] is not None}
        sizes = {len(value) for value in feed.values() if value.ndim}
        if len(fixed) != 1 or len(sizes) != 1 or fixed == sizes or not all(one.shape for one in self.graph.inputs):
            return self.graph.run(feed | weights)
        (batch,), (size,) = fixed, sizes  # the file was made for one size: pieces of it, the last one filled up
        pieces = []
        for start in range(0, size, batch):
            piece = {name: value[start : start + batch] for name, value in feed.items()}
            short = batch - len(next(iter(piece.values())))
            if short:
                piece = {name: np.concatenate([v, np.repeat(v[-1:], short, axis=0)]) for name, v in piece.items()}
            answers = self.graph.run(piece | weights)
            if any(not one.ndim or len(one) != batch for one in answers):
                raise EvaluationError(
                    say("the file is made for {batch} samples at once, and answers in another number", batch=batch)
                )
            pieces.append([one[: batch - short] for one in answers])
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def _fitting(one: Input, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise EvaluationError(say("input {name}: {type}; accepted: a tensor", name=one.name, type=type(value).__name__))
    if one.shape is not None:
        same = len(one.shape) == value.ndim and all(
            a is None or a == b for a, b in list(zip(one.shape, value.shape, strict=False))[1:]
        )
        if not same:
            accepted = ", ".join("any" if d is None else str(d) for d in one.shape)
            raise EvaluationError(
                say(
                    "input {name}: shape {shape}; accepted by the file: ({accepted})",
                    name=one.name,
                    shape=tuple(value.shape),
                    accepted=accepted,
                )
            )
    if value.is_floating_point() and not one.dtype.is_floating_point:
        raise EvaluationError(
            say(
                "input {name}: {dtype}; accepted by the file: {accepted}",
                name=one.name,
                dtype=str(value.dtype),
                accepted=str(one.dtype),
            )
        )
    return value.to(one.dtype)


def opaque(module: nn.Module) -> Message | None:
    """Why nothing can be traced into or differentiated through a module; None for torch's own."""
    return say("ONNX Runtime runs the file as a whole") if isinstance(module, OnnxModule) else None
