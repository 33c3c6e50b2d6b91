"""One pass over training samples that gathers what every first-order and activation criterion needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core.errors import EvaluationError, ExplorerError
from ..core.message import say
from ..models.subject import Subject
from ..models.unrolled import ready
from . import per_sample
from .look import Look, chunks, exact, loss_of
from .moments import Moments
from .probe import Probe, probe
from .taps import Tap, Watch

CHUNK = 128


@dataclass(eq=False)
class Evidence:
    """What was seen on ``n`` training samples, with L_n the share of sample n in the loss, L its mean.

    gradient: {layer: dL/dw}. squared: {layer: mean over n of (dL_n/dw)^2}, of layers whose products could be watched.
    inputs: {layer: [groups, 1 or r, 1 or c], the root of the sum of squares of the input that each weight multiplies}.
    moments: {layer: of its inputs}. relevance: {group: (mean |R_n|, mean R_n^2)}, R_n [units] = sum of a dL_n/da over what
    reads the unit.
    """

    n: int = 0
    loss: float = 0.0
    gradient: dict[str, Tensor] = field(default_factory=dict)
    squared: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)
    relevance: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def evidence(subject: Subject, look: Look) -> Evidence:
    """The pass, run once for each subject, number of samples and seed. Raises what :func:`probe` found to be missing."""
    return subject.memo.get(("evidence", subject.version, look.key), lambda: _gather(subject, look))


def _gather(subject: Subject, look: Look) -> Evidence:
    known = probe(subject)
    if known.problem is not None:
        raise EvaluationError(known.problem)
    with torch.inference_mode(False), torch.enable_grad(), exact(look.where):
        run = _Pass(subject, look, known)
        size = CHUNK if known.splits else 1
        for inputs, targets, n in chunks(subject, look, size, run.dtype):
            run.chunk(inputs, targets, n)
        return run.done()


class _Pass:
    """The state of one pass."""

    def __init__(self, subject: Subject, look: Look, known: Probe) -> None:
        self.subject, self.known, self.out = subject, known, Evidence()
        self.module = ready(subject.module, look.where)
        self.parameters = dict(self.module.named_parameters())
        self.dtype = next((p.dtype for p in self.parameters.values() if p.is_floating_point()), None)
        self.names = {id(self.parameters[name]): name for name in known.watched}
        self.others = [self.parameters[name] for name in known.unwatched]
        self.keep = False
        for parameter in self.others:
            parameter.requires_grad_(True)
        self.readers: dict[str, list[tuple[str, int, Tensor]]] = {}  # {consumer: (group, dim, index [units, k])}
        for cut in subject.structure.cuts.values():
            for piece in cut.slices:
                if piece.role == "consumer" and piece.tensor in known.watched:
                    self.readers.setdefault(piece.tensor, []).append((cut.group.name, piece.dim, piece.index.to(look.where)))

    def chunk(self, inputs: Any, targets: Any, n: int) -> None:
        """Forward, backward, and what follows from it."""
        try:
            watch = self._run(inputs, targets, n)
            if any(tap.overwritten for tap in watch.taps.calls):  # a module writes to its input: keep copies
                self.keep = True
                watch = self._run(inputs, targets, n)
        except ExplorerError:
            raise
        except Exception as error:
            raise EvaluationError(
                say("{name}: forward or backward failed on training samples: {kind}: {error}", name=self.subject.name, kind=type(error).__name__, error=str(error)[:200])
            ) from error
        for name in self.known.watched:
            taps = watch.taps.of(name)
            if taps:
                self._tap(name, taps, n)
        for name, parameter in zip(self.known.unwatched, self.others, strict=True):
            if parameter.grad is not None:
                _add(self.out.gradient, name, parameter.grad * n)
                parameter.grad = None
        for group, found in self.reads.items():
            absolute, squares = self.out.relevance.get(group, (torch.zeros(()), torch.zeros(())))
            self.out.relevance[group] = (absolute + found.abs().sum(0).cpu().double(), squares + found.square().sum(0).cpu().double())
        self.out.n += n

    def _run(self, inputs: Any, targets: Any, n: int) -> Watch:
        self.reads: dict[str, Tensor] = {}
        with Watch(self.names, self.keep) as watch:
            outputs = self.subject.task.forward(self.module, inputs)
        loss = loss_of(self.subject, outputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.out.loss += float(loss.detach()) * n
        return watch

    def _tap(self, name: str, taps: list[Tap], n: int) -> None:
        batch = self.known.batch[name] if n > 1 or self.known.splits else None
        weight = self.parameters[name].detach()
        for tap in taps:
            if tap.kind != "embedding":
                self.out.moments.setdefault(name, Moments()).add(tap, weight.ndim)
        taps = [tap for tap in taps if tap.gradient is not None]
        if not taps:
            return
        if taps[0].kind == "embedding":
            for tap in taps:
                self._table(name, tap, n, batch, weight)
            return
        pairs = [per_sample.matrices(tap, tap.gradient, weight.shape, batch) for tap in taps if tap.gradient is not None]
        rows, columns = (torch.cat(part, 2) if len(part) > 1 else part[0] for part in zip(*pairs, strict=True))
        rows, columns = (rows * n, columns) if taps[0].kind != "transposed" else (rows, columns * n)  # of L_n, not of their mean
        matrix = weight.reshape(rows.shape[1], rows.shape[3], columns.shape[3])
        turned = taps[0].kind == "transposed"
        wanted = name in self.readers
        if turned:  # the input's channels are the rows
            second_first, squares, read = per_sample.statistics(columns, rows, matrix.transpose(1, 2).contiguous() if wanted else None)
            first, squares = second_first.transpose(1, 2), squares.transpose(1, 2)
            seen = rows.square().sum((0, 2))[:, :, None]
        else:
            first, squares, read = per_sample.statistics(rows, columns, matrix if wanted else None)
            seen = columns.square().sum((0, 2))[:, None, :]
        _add(self.out.gradient, name, first.reshape(weight.shape))
        _add(self.out.squared, name, squares.reshape(weight.shape))
        _add(self.out.inputs, name, seen.cpu().double())
        if read is not None:
            inputs = weight.shape[0] if turned else weight.shape[1] * taps[0].groups
            self._read(name, read.reshape(len(read), inputs, -1).sum(2))

    def _table(self, name: str, tap: Tap, n: int, batch: int | None, weight: Tensor) -> None:
        assert tap.gradient is not None
        first, squares = per_sample.embedding_sums(tap, tap.gradient * n, weight.shape, batch)
        _add(self.out.gradient, name, first)
        _add(self.out.squared, name, squares)
        _add(self.out.inputs, name, tap.inputs.flatten().bincount(minlength=len(weight)).cpu().double()[None, :, None])

    def _read(self, name: str, read: Tensor) -> None:
        """read [N, inputs]: x dL_n/dx; each unit owns some of these."""
        for group, dim, index in self.readers[name]:
            if self.parameters[name].shape[dim] == read.shape[1]:
                mine = read[:, index.flatten()].reshape(len(read), *index.shape).sum(2)
                self.reads[group] = self.reads[group] + mine if group in self.reads else mine

    def done(self) -> Evidence:
        out, n = self.out, self.out.n
        out.loss /= n
        out.gradient = {name: found / n for name, found in out.gradient.items()}
        out.squared = {name: found / n for name, found in out.squared.items()}
        out.inputs = {name: found.sqrt() for name, found in out.inputs.items()}
        out.relevance = {group: (a / n, b / n) for group, (a, b) in out.relevance.items()}
        return out


def _add(table: dict[str, Tensor], name: str, value: Tensor) -> None:
    table[name] = table[name] + value if name in table else value


def spread(compact: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[groups, 1 or r, 1 or c] as a tensor of the weight's shape, its entries being (groups * r, c)."""
    groups = compact.shape[0]
    columns = 1
    for size in shape[1:]:
        columns *= size
    return compact.expand(groups, shape[0] // groups, columns).reshape(shape)
