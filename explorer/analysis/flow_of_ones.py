"""SynFlow's flow: an input of ones through the model with every parameter and buffer replaced by its absolute value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import cause
from ..core.message import say
from ..models.memory import beyond
from ..models.subject import Subject
from ..models.task import rebuilt, to_device
from ..models.trial import tensors
from ..models.unrolled import ready

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def starts_here(subject: Subject, layer: str) -> bool:
    """Whether the layer is an embedding, behind which the flow starts."""
    owner = layer.rpartition(".")[0]
    return isinstance(subject.module.get_submodule(owner), EMBEDDINGS)


def synaptic_flow(subject: Subject) -> dict[str, Tensor] | str:
    """{layer: |w dR/dw| in float64}, on the CPU; or why there is none. Cached."""
    return subject.memo.get(("synflow", subject.version), lambda: {"found": _flow(subject)})["found"]


def _flow(subject: Subject) -> dict[str, Tensor] | str:
    if subject.task.kind == "weights":
        return say("an input of ones does not pass the model: {cause}", cause=subject.task.why)
    if (room := beyond(24 * sum(p.numel() for p in subject.module.parameters()))) is not None:
        return say("its weights, slopes and scores in float64 take {needed:.1f} GB, more than a third of this machine's {memory:.1f} GB", **room)
    with torch.inference_mode(False), torch.enable_grad():
        module = ready(subject.module, torch.device("cpu")).double()
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.data = tensor.data.abs()
        parameters = dict(module.named_parameters())
        names = [layer.name for layer in subject._plain_layers if not starts_here(subject, layer.name)]
        for name in names:
            parameters[name].requires_grad_(True)
        for child in module.modules():
            if isinstance(child, EMBEDDINGS):
                child.register_forward_hook(lambda _, __, out: torch.ones_like(out))
        try:
            inputs = _ones(to_device(subject.task.example(1), "cpu", torch.float64))
            outputs = subject.task.forward(module, inputs)
            flow = sum(
                (one.sum() for one in tensors(outputs) if one.is_floating_point()), torch.zeros((), dtype=torch.float64)
            )
            assert isinstance(flow, Tensor)
            slopes = torch.autograd.grad(flow, [parameters[name] for name in names], allow_unused=True)
        except Exception as error:
            return say("an input of ones does not pass the model: {cause}", cause=cause(error, 200))
        found = {n: (parameters[n] * g).detach().abs() for n, g in zip(names, slopes, strict=True) if g is not None}
    if not all(bool(torch.isfinite(one).all()) for one in found.values()):
        return say("the synaptic flow is not finite: the network is too deep for it without a normalization")
    return found


def _ones(value: Any) -> Any:
    """Floating tensors as ones; integers (tokens, lengths) stay a real sample's."""
    if isinstance(value, Tensor):
        return torch.ones_like(value) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _ones(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return rebuilt(value, [_ones(one) for one in value])
    return value
