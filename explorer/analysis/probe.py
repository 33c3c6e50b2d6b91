"""What can be seen of a subject, found out on a few samples before any real work starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ..core.errors import cause
from ..core.message import say
from ..models.onnx_module import NO_GRADIENTS, opaque
from ..models.replica import LARGE, weight_bytes
from ..models.structure import Cut
from ..models.subject import Subject
from ..models.task import to_device
from ..models.unrolled import IMAGES, ready
from .look import loss_of
from .moments import Moments, sums
from .taps import Watch

CHUNKS = (64, 128, 256, 512)
ENTRIES = 1 << 23  # of what products read, in a chunk
SIZES = (8, 5)  # two batches: what differs between them counts samples


@dataclass(eq=False)
class Probe:
    """problem: why nothing can be gathered, or None. watched: layers whose products are seen; unwatched: the others that
    gradients reach; dead: layers that no gradient reaches. kinds and groups, of watched layers: linear, conv, transposed, embedding. batch: {watched layer: the dim of its input that counts samples, or None}.
    calls: {watched layer: products a pass}. positions: {watched layer: products a sample, each with the whole weight}. moments: {watched
    layer: of its inputs, on these few samples}, of all but embeddings. entries: how much products read, a sample. last: whether
    images may have their channels last in memory, which a forward that takes views of them may not allow."""

    problem: str | None = None
    watched: list[str] = field(default_factory=list)
    unwatched: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    batch: dict[str, int | None] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    positions: dict[str, float] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)
    entries: float = 0.0
    last: bool = False

    @property
    def chunk(self) -> int:
        """How many samples go through at once: few calls for small models, what a cache holds for large ones."""
        fits = ENTRIES / max(self.entries, 1.0)
        return max([size for size in CHUNKS if size <= fits] or [CHUNKS[0]]) if self.splits else 1

    @property
    def splits(self) -> bool:
        """Whether a batch can be told apart into its samples everywhere."""
        return all(self.batch[name] is not None for name in self.watched)


def probe(subject: Subject) -> Probe:
    """Look at 8 and at 5 samples, forward and, where there is a loss, backward. Never raises for what the subject lacks."""
    return subject.memo.get(("probe", subject.version), lambda: _probe(subject))


def why_no_data(subject: Subject) -> str | None:
    """Why nothing that needs training samples can be computed."""
    if "train" not in subject.task.splits:
        return say(
            'the task has no "train" split; give one (Task(train=...)), or use l1, l2 or lamp, which need no data'
        )
    return None


def why_no_loss(subject: Subject) -> str | None:
    """Why no loss can be computed."""
    if subject.task.loss is None:
        return say("the task has no loss; give one (Task(loss=...)), or use l1, l2 or lamp, which need none")
    return None


def why_no_gradient(subject: Subject, layers: list[str]) -> str | None:
    """Why there are no gradients of these layers' weights."""
    found = probe(subject)
    if found.problem is not None:
        return found.problem
    dead = next((layer for layer in layers if layer in found.dead), None)
    if dead is not None:
        return say(
            "no gradient of the loss reaches {layer} (unused, or detached from the loss); l1 needs none", layer=dead
        )
    return None


def why_unobserved(subject: Subject, layers: list[str], cut: Cut | None = None) -> str | None:
    """Why what goes into these layers, or with ``cut`` what reads its units, cannot be seen."""
    from .readers import readers_of

    found = probe(subject)
    if found.problem is not None:
        return found.problem
    if cut is not None:
        if not readers_of(subject, cut, found):
            return say(
                "what reads the units of {group} could not be observed; l1 or taylor would do", group=cut.group.name
            )
        return None
    hidden = next((layer for layer in layers if layer not in found.watched), None)
    return (
        None
        if hidden is None
        else say("what {layer} multiplies could not be observed; l1 or taylor would do", layer=hidden)
    )


def _probe(subject: Subject) -> Probe:
    if why_no_data(subject):
        return Probe(why_no_data(subject))
    if opaque(subject.module) is not None:
        return Probe(NO_GRADIENTS)
    images = any(type(child) in IMAGES for child in subject.module.modules())
    last = images and weight_bytes(subject.module) <= LARGE  # it costs a copy of these weights
    found = _seen(subject, last)
    return _seen(subject, False) if found.problem is not None and last else found


def _seen(subject: Subject, last: bool) -> Probe:
    layers = [layer.name for layer in subject._plain_layers]
    with torch.inference_mode(False), torch.enable_grad():
        first = next(subject.module.parameters(), torch.empty(0))
        module = ready(subject.module, first.device, last)
        parameters = dict(module.named_parameters())
        names = {id(parameters[name]): name for name in layers}
        seen = []
        for index, size in enumerate(SIZES):
            data = subject.task.dataset("train")
            inputs, targets = subject.task.batch("train", [i % len(data) for i in range(size)])
            inputs, targets = to_device(inputs, first.device, first.dtype), to_device(targets, first.device)
            if index == 1:
                for name in layers:
                    parameters[name].requires_grad_(True)
            try:
                with Watch(names) as watch:
                    outputs = subject.task.forward(module, inputs)
                if index == 1 and subject.task.loss is not None:
                    loss = loss_of(subject, outputs, targets)
                    if not loss.requires_grad:
                        return Probe(
                            say(
                                "the loss does not depend on the weights through differentiable operations (detach, no_grad or rounding?)"
                            )
                        )
                    loss.backward()  # type: ignore[no-untyped-call]
            except Exception as error:
                return Probe(say("forward or backward fails on training samples: {cause}", cause=cause(error, 200)))
            seen.append(watch)
    found = Probe(last=last)
    for name in layers:
        pairs = [taps.of(name) for taps in seen]
        reached = parameters[name].grad is not None or subject.task.loss is None
        if not reached:
            found.dead.append(name)
        kinds = {tap.kind for taps in pairs for tap in taps}
        if not pairs[0] or len(pairs[0]) != len(pairs[1]) or len(kinds) > 1:
            if reached:
                found.unwatched.append(name)
            continue
        found.watched.append(name)
        found.kinds[name], found.groups[name] = pairs[0][0].kind, pairs[0][0].groups
        dims = {_batch(tuple(a.inputs.shape), tuple(b.inputs.shape)) for a, b in zip(*pairs, strict=True)}
        found.batch[name] = dims.pop() if len(dims) == 1 else None
        weight = parameters[name]
        found.calls[name] = len(pairs[0])
        found.entries += sum(tap.inputs.numel() for tap in pairs[0]) / SIZES[0]
        for tap in pairs[0]:
            if tap.kind != "embedding":
                found.moments.setdefault(name, Moments()).add(*sums(tap, weight.ndim))
        found.positions[name] = sum(_positions(tap, weight.shape) for tap in pairs[0]) / SIZES[0]
    return found


def _batch(first: tuple[int, ...], second: tuple[int, ...]) -> int | None:
    dims = [d for d, (a, b) in enumerate(zip(first, second, strict=False)) if (a, b) == SIZES]
    return dims[0] if len(dims) == 1 and len(first) == len(second) else None


def _positions(tap: Any, shape: Any) -> int:
    """How often the whole weight is multiplied in a call."""
    if tap.kind == "embedding":
        return 0
    if tap.kind == "linear":
        return int(torch.Size(tap.output).numel() // shape[0])
    spatial = tap.inputs.shape if tap.kind == "transposed" else tap.output
    batch = spatial[0] if len(spatial) == len(shape) else 1
    return int(batch * torch.Size(spatial[-(len(shape) - 2) :]).numel())
