"""Do two criteria agree? Rank correlations of their scores on one layer or group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import RecipeError
from ..core.message import say
from ..models.subject import Subject
from .importance import importance

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("spearman", "kendall")
MOST = 2000  # entries of a layer that are compared; Kendall looks at every pair


def ranks(values: np.ndarray) -> np.ndarray:
    """From 1, ties share the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[place]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of the ranks; nan where one of them is constant. Spearman 1904, Am. J. Psychology 15."""
    x, y = ranks(a) - (len(a) + 1) / 2, ranks(b) - (len(b) + 1) / 2
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size else float("nan")


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau-b: concordant minus discordant pairs, corrected for ties; nan where one is constant. Kendall 1945, Biometrika 33."""
    x, y = (np.sign(v[:, None] - v[None, :]).astype(np.int8) for v in (a, b))
    both = float((x * y).sum(dtype=np.int64))
    size = np.sqrt(float(np.abs(x).sum(dtype=np.int64)) * float(np.abs(y).sum(dtype=np.int64)))
    return both / size if size else float("nan")


def table(
    subject: Subject, name: str, criteria: Sequence[str], samples: int = 1024, seed: int = 0, **more: Any
) -> pd.DataFrame:
    """Scores of one layer's weights, or of one group's units: a row an entry, a column a criterion.

    Of a layer with more than 2,000 weights a seeded sample of these. more: device, progress, cancel. Raises what importance raises.
    """
    import pandas as pd

    granularity: Any = "unit" if name in subject.structure.cuts else "weight"
    columns = {}
    chosen = slice(None)
    for criterion in criteria:
        found = importance(
            subject, criterion, granularity=granularity, layers=[name], samples=samples, seed=seed, **more
        )[name]
        flat = found.flatten().cpu().double().numpy()
        if len(flat) > MOST and isinstance(chosen, slice):
            chosen = np.sort(np.random.default_rng(seed).choice(len(flat), MOST, replace=False))  # type: ignore[assignment]
        columns[criterion] = flat[chosen]
    index = np.arange(len(flat))[chosen]
    return pd.DataFrame(columns, index=pd.Index(index, name="unit" if granularity == "unit" else "weight"))


def correlations(scores: pd.DataFrame, method: str = "spearman") -> pd.DataFrame:
    """A square of rank correlations between the columns of :func:`table`: 1 the same order, 0 unrelated, -1 the reverse."""
    import pandas as pd

    if method not in METHODS:
        raise RecipeError(say("method={method!r}; accepted: {accepted}", method=method, accepted=", ".join(METHODS)))
    measure = spearman if method == "spearman" else kendall
    names = list(scores.columns)
    found = np.eye(len(names))
    for i, a in enumerate(names):
        for j, b in enumerate(names[:i]):
            found[i, j] = found[j, i] = measure(scores[a].to_numpy(), scores[b].to_numpy())
    return pd.DataFrame(found, index=names, columns=names)
