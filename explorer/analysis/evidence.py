"""One pass over training samples that gathers what every first-order and activation criterion needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..core.errors import EvaluationError, ExplorerError, failed
from ..core.message import say
from ..models.device import exact
from ..models.subject import Subject
from ..models.unrolled import ready
from . import per_sample
from .look import Look, chunks, loss_of
from .moments import Moments, sums
from .probe import Probe, probe
from .readers import readers_of
from .room import Room
from .taps import Tap, Watch


@dataclass(eq=False)
class Evidence:
    """What was seen on ``n`` training samples, with L_n the share of sample n in the loss, L its mean.

    gradient: {layer: dL/dw}. squared: {layer: mean over n of (dL_n/dw)^2}, where it costs no more than the gradient: linear layers
    that are called at one position, embeddings. inputs: {layer: [groups, 1 or r, 1 or c], the root of the sum of squares of the
    input that each weight multiplies}. moments: {layer: of its inputs}. relevance: {group: (mean |R_n|, mean R_n^2)}, R_n [units]
    = sum of a dL_n/da over all places that read the unit.
    """

    n: int = 0
    loss: float = 0.0
    gradient: dict[str, Tensor] = field(default_factory=dict)
    squared: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)
    relevance: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def evidence(subject: Subject, look: Look) -> Evidence:
    """The pass, run once for each subject, number of samples and seed. Without a loss it only goes forward."""
    return subject.memo.get(("evidence", subject.version, look.key), lambda: gather(subject, look))


def gather(subject: Subject, look: Look) -> Evidence:
    """The pass itself, not kept. Raises :class:`EvaluationError` with what :func:`probe` found to be wrong."""
    known = probe(subject)
    if known.problem is not None:
        raise EvaluationError(say("{name}: {why}", name=subject.name, why=known.problem))
    with torch.inference_mode(False), torch.set_grad_enabled(subject.task.loss is not None), exact(look.where):
        run = _Pass(subject, look, known)
        for inputs, targets, n in chunks(subject, look, known.chunk, run.dtype):
            run.chunk(inputs, targets, n)
        return run.done()


class _Pass:
    """The state of one pass."""

    def __init__(self, subject: Subject, look: Look, known: Probe) -> None:
        self.subject, self.known, self.out = subject, known, Evidence()
        self.module = ready(subject.module, look.where, known.last and look.where.type == "cpu")
        self.parameters = dict(self.module.named_parameters())
        self.dtype = next((p.dtype for p in self.parameters.values() if p.is_floating_point()), None)
        self.names = {id(self.parameters[name]): name for name in known.watched}
        # the gradients of linear layers and tables follow from what is watched; autograd makes those of the others
        self.natural = [
            *known.unwatched,
            *(name for name in known.watched if known.kinds[name] in ("conv", "transposed")),
        ]
        for name in self.natural if torch.is_grad_enabled() else ():
            self.parameters[name].requires_grad_(True)
        # {(layer, shapes): (such a product, what sums says of all of them, of how many)}
        self.tables: dict[tuple[Any, ...], tuple[Tap, Tensor, list[int]]] = {}
        self.outputs = {name for name in known.watched if name not in self.natural}
        self.n, self.room = 0, Room()  # samples of this chunk; what it needs and the next one, too
        self.last: tuple[Tensor, Any, tuple[Tensor, int]] = torch.empty(0), None, (torch.empty(0), 0)
        self.totals: dict[str, Tensor] = {}  # {layer: x dL_n/dx [N, inputs]}, of this chunk
        self.readers: dict[str, list[tuple[str, int, Tensor]]] = {}  # {layer: (group, units, inputs [units * k])}
        for cut in subject.structure.cuts.values():
            for name, index in readers_of(subject, cut, known):
                self.readers.setdefault(name, []).append((cut.group.name, len(index), index.flatten().to(look.where)))
        # of samples that are rows of a recurrent layer's states
        self.summed = {name for name in self.readers if known.batch[name] == 1}

    def chunk(self, inputs: Any, targets: Any, n: int) -> None:
        """Forward, backward, and what follows from it."""
        self.n = n
        try:
            loss, watch = self._run(inputs, targets)
        except ExplorerError:
            raise
        except Exception as error:
            where = say("{name}: forward or backward failed on training samples", name=self.subject.name)
            raise failed(where, error, 200) from error
        self.last = torch.empty(0), None, (torch.empty(0), 0)
        self.out.loss += loss * n
        self.out.n += n
        for name in self.known.watched:
            taps = watch.of(name)
            if taps:
                if not self._at_once(taps[0]):
                    self._inputs(name, taps)
                for tap in taps:
                    if tap.back is not None or tap.met is not None:  # of a recurrent layer
                        self._products(tap)
                self._gradients(name, [tap for tap in taps if tap.gradient is not None])
        reads: dict[str, Tensor] = {}
        for name in list(self.totals):
            self._reads(name, self.totals.pop(name), n, reads)
        for name in self.natural:
            parameter = self.parameters[name]
            if parameter.grad is not None:
                _add(self.out.gradient, name, parameter.grad * n)
                parameter.grad = None
        self.room.again()
        for group, found in reads.items():
            absolute, squares = self.out.relevance.get(group, (torch.zeros(()), torch.zeros(())))
            self.out.relevance[group] = (
                absolute + found.abs().sum(0).cpu().double(),
                squares + found.square().sum(0).cpu().double(),
            )

    def _run(self, inputs: Any, targets: Any) -> tuple[float, Watch]:
        with Watch(self.names, self.readers, self.outputs, self._seen, self._returned, self.room, self.summed) as watch:
            outputs = self.subject.task.forward(self.module, inputs)
        if not torch.is_grad_enabled():
            return 0.0, watch
        loss = loss_of(self.subject, outputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), watch

    def _inputs(self, name: str, taps: list[Tap]) -> None:
        shape = self.parameters[name].shape
        if taps[0].kind == "embedding":
            for tap in taps:
                _add(
                    self.out.inputs,
                    name,
                    tap.inputs.flatten().bincount(minlength=shape[0]).cpu().double()[None, :, None],
                )
            return
        for tap in taps if taps[0].kind != "linear" else [per_sample.joined(taps)]:
            found, count = self._sums(tap, len(shape))
            key = name, tuple(found.shape), tap.output[1 - len(shape) :]
            if key not in self.tables:
                self.tables[key] = replace(tap, inputs=torch.empty(0)), torch.zeros_like(found), []
            _, total, counts = self.tables[key]
            total += found
            counts.append(count)

    def _sums(self, tap: Tap, ndim: int) -> tuple[Tensor, int]:
        """Once of what several products read, one after the other: queries, keys and values."""
        x, (last, known, found) = tap.inputs, self.last
        same = (
            known is not None
            and not x.is_inference()
            and (last.data_ptr(), last.shape, last.stride(), last._version)
            == (
                x.data_ptr(),
                x.shape,
                x.stride(),
                x._version,
            )
        )
        if not same or known != (tap.kind, ndim):
            found = sums(tap, ndim)
            self.last = x, (tap.kind, ndim), found
        return found

    def _at_once(self, tap: Tap) -> bool:
        """Whether a product is looked at as soon as it is there, and not with others of the same weight."""
        return not tap.steps and (tap.kind != "linear" or self.known.calls[tap.name] == 1)

    def _seen(self, tap: Tap) -> None:
        if self._at_once(tap):
            self._inputs(tap.name, [tap])

    def _returned(self, tap: Tap) -> None:
        if tap.back is not None:
            self._products(tap)
        if tap.gradient is not None and tap.kind == "linear" and self._at_once(tap):
            self._gradients(tap.name, [tap])
            tap.gradient = None

    def _products(self, tap: Tap) -> None:
        """x dL_n/dx [N, inputs] of what the layer read."""
        found = tap.met
        if found is None:
            found = per_sample.input_products(tap, self.parameters[tap.name].ndim, self.known.batch[tap.name])
        tap.back = tap.met = None
        _add(self.totals, tap.name, found)

    def _reads(self, name: str, total: Tensor, n: int, reads: dict[str, Tensor]) -> None:
        """What the layer read, given to the units that own it."""
        total = n * total
        for group, units, index in self.readers[name]:
            mine = total.index_select(1, index)
            mine = mine if len(index) == units else mine.view(len(total), units, -1).sum(2)
            reads[group] = reads[group] + mine if group in reads else mine

    def _gradients(self, name: str, taps: list[Tap]) -> None:
        """Of linear layers and embeddings, by what they read and the gradient of what they said."""
        weight, batch, n = self.parameters[name], self.known.batch[name], self.n
        if not taps:
            return
        if taps[0].kind == "embedding":
            for tap in taps:
                first, squares = per_sample.embedding_sums(tap, weight.shape, batch, n)
                _add(self.out.gradient, name, first)
                _add(self.out.squared, name, squares)
            return
        whole = per_sample.joined(taps)
        assert whole.gradient is not None
        rows, columns = whole.gradient.reshape(-1, weight.shape[0]), whole.inputs.reshape(-1, weight.shape[1])
        if name in self.out.gradient:  # added to where it lies
            self.out.gradient[name].T.addmm_(columns.T, rows, alpha=n)
        else:
            self.out.gradient[name] = (n * (columns.T @ rows)).T
        if len(rows) == n:  # one position a sample: (g x^T)^2 = g^2 (x^2)^T
            _add(self.out.squared, name, n * n * (rows.square().T @ columns.square()))

    def done(self) -> Evidence:
        out, n = self.out, self.out.n
        out.loss /= n
        out.gradient = {name: found / n for name, found in out.gradient.items()}
        out.squared = {name: found / n for name, found in out.squared.items()}
        for (name, *_), (tap, total, counts) in self.tables.items():
            out.moments.setdefault(name, Moments()).add(total, sum(counts))
            _add(out.inputs, name, per_sample.patch_squares(tap, total[2], self.parameters[name].shape))
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
