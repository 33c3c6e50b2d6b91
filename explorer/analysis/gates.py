"""Which gates of an LSTM or GRU matter, by any criterion, and at which time step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.errors import RecipeError, UnsupportedError, near
from ..core.message import say
from ..models.device import exact
from ..models.gates import gate_names, gates_of
from ..models.subject import Subject, checked
from ..models.unrolled import ready
from .criteria import registry
from .importance import weight_scores
from .look import CHUNK, Look, chunks, loss_of
from .probe import why_no_data, why_no_gradient, why_no_loss
from .taps import Watch, single_steps

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("layer", "gate", "score", "mean", "share")


def gate_importance(
    subject: Subject,
    criterion: str = "l1",
    *,
    layers: Sequence[str] | None = None,
    over_time: bool = False,
    samples: int = 1024,
    seed: int = 0,
    **more: Any,
) -> pd.DataFrame:
    """Which gates matter: one row a layer's tensor and gate (input, forget, cell, output of an LSTM; reset, update, new of a GRU).

    Columns: layer, gate, score (the criterion summed over the gate's rows), mean (over its weights) and share (of the layer's
    sum). Prune what it shows with ``Recipe().prune(layer, granularity="gate", sparsity=...)``: whole gates' matrices become zero.
    over_time: instead one row a recurrent tensor, gate and time step, with column step and relevance: mean over samples of
    |sum of z dL_n/dz|, z what the gate reads of the state at that step (the criterion is not asked).
    more: device, progress, cancel, as in :func:`explorer.importance`. Raises :class:`UnsupportedError` for models without gates.
    """
    import pandas as pd

    checked(subject)
    able = [layer.name for layer in subject.layers if gate_names(subject, layer.name)]
    for name in layers or ():
        if name not in able:
            raise RecipeError(say("no gates in {name!r}; {hint}", name=name, hint=near(name, able)))
    names = list(layers) if layers is not None else able
    if not names:
        raise UnsupportedError(
            say("{name}: no layer has gates; accepted: a model with an LSTM or a GRU", name=subject.name)
        )
    look = Look(samples, seed, **more)
    if over_time:
        return _steps(subject, names, look)
    rows = []
    for name, scores in weight_scores(subject, registry[criterion](), names, look).items():
        scores = scores.cpu().double()
        blocks = scores.chunk(len(gate_names(subject, name)))
        whole = float(scores.abs().sum()) or 1.0
        for gate, block in zip(gate_names(subject, name), blocks, strict=True):
            rows.append((name, gate, float(block.sum()), float(block.mean()), float(block.abs().sum()) / whole))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def why_not_over_time(subject: Subject, names: list[str]) -> str | None:
    """None, or why the steps of these tensors cannot be seen; said before any work."""
    return why_no_data(subject) or why_no_loss(subject) or why_no_gradient(subject, names)


def _steps(subject: Subject, names: list[str], look: Look) -> pd.DataFrame:
    import pandas as pd

    names = [name for name in names if name.rpartition(".")[2].startswith("weight_hh")]
    why = why_not_over_time(subject, names)
    if why is not None:
        raise UnsupportedError(say("{name}: {why}", name=subject.name, why=why))
    found = subject.memo.get(
        ("gates over time", subject.version, tuple(names), look.key), lambda: over_steps(subject, names, look)
    )
    rows = []
    for name, table in found.items():
        for step, values in enumerate(table.tolist()):
            rows += [(name, gate, step, value) for gate, value in zip(gate_names(subject, name), values, strict=True)]
    return pd.DataFrame(rows, columns=["layer", "gate", "step", "relevance"])


def over_steps(subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
    """{weight_hh: [T, gates]}: mean over samples of |sum over the gate's rows of z dL_n/dz|, z = W_hh h at each step.

    Steps are counted in the direction in which the layer reads: from the end, for a reversed one.
    """
    total: dict[str, Tensor] = {}
    seen = 0
    with torch.inference_mode(False), torch.enable_grad(), exact(look.where):
        module = ready(subject.module, look.where)
        parameters = dict(module.named_parameters())
        dtype = next(p.dtype for p in parameters.values() if p.is_floating_point())
        for inputs, targets, n in chunks(subject, look, CHUNK, dtype):
            with Watch({id(parameters[name]): name for name in names}) as watch:
                outputs = subject.task.forward(module, inputs)
            loss_of(subject, outputs, targets).backward()  # type: ignore[no-untyped-call]
            for name in names:
                gates = gates_of(subject, name)
                steps = []
                for read, gradient in single_steps(watch.of(name)):
                    if gradient is None:
                        continue
                    z = read @ parameters[name].detach().T  # [N, gates * H]
                    product = (z * gradient * n).reshape(len(z), gates, -1).sum(2)
                    steps.append(product.abs().sum(0).cpu().double())
                table = torch.stack(steps)
                grown = total.get(name, torch.zeros(0, gates, dtype=torch.float64))
                longer = torch.zeros(max(len(table), len(grown)), gates, dtype=torch.float64)
                longer[: len(grown)] += grown
                longer[: len(table)] += table
                total[name] = longer
            seen += n
    return {name: table / seen for name, table in total.items()}
