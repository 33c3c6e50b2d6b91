"""Which gates of an LSTM or GRU matter, by any criterion, and at which time step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import RecipeError, UnsupportedError, near
from ..core.message import say
from ..models.gates import gate_names
from ..models.subject import Subject
from .criteria import registry
from .evidence import evidence
from .importance import weight_scores
from .look import Look

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

    able = [layer.name for layer in subject.layers if gate_names(subject, layer.name)]
    for name in layers or ():
        if name not in able:
            raise RecipeError(say("no gates in {name!r}; {near}", name=name, near=near(name, able)))
    names = list(layers) if layers is not None else able
    if not names:
        raise UnsupportedError(say("{name}: no layer has gates; accepted: a model with an LSTM or a GRU", name=subject.name))
    look = Look(samples, seed, **more)
    if over_time:
        return _steps(subject, names, look)
    rows = []
    for name, scores in weight_scores(subject, registry[criterion](), names, look).items():
        blocks = scores.double().chunk(len(gate_names(subject, name)))
        whole = float(scores.double().abs().sum()) or 1.0
        for gate, block in zip(gate_names(subject, name), blocks, strict=True):
            rows.append((name, gate, float(block.sum()), float(block.mean()), float(block.abs().sum()) / whole))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _steps(subject: Subject, names: list[str], look: Look) -> pd.DataFrame:
    import pandas as pd

    entry = registry["snip"]()
    why = entry.is_compatible(subject, names[0])
    if why is not None:
        raise UnsupportedError(say("{name}: {why}", name=names[0], why=why))
    rows = []
    for name, table in evidence(subject, look).steps.items():
        if name in names:
            for step, values in enumerate(table.tolist()):
                rows += [(name, gate, step, value) for gate, value in zip(gate_names(subject, name), values, strict=True)]
    return pd.DataFrame(rows, columns=["layer", "gate", "step", "relevance"])
