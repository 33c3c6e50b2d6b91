"""What the weights of a file look like, and where a sparsity would cut them: read once, piece by piece, whatever the size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..analysis.patterns import COUNTED
from ..analysis.tally import Tally, kth
from ..core.errors import RecipeError
from ..core.message import say
from ..core.targets import matches
from .header import FLOATING, Entry
from .inspect import header_row
from .limits import no_paths
from .sources import Source, checkpoint
from .stream import Cancel, Progress, inside, tallies

if TYPE_CHECKING:
    import pandas as pd

QUANTILES = {"median": 0.5, "90 %": 0.9, "99 %": 0.99}
SCOPES = ("layer", "global")


def file_statistics(path: str | Path, *, progress: Progress = None, cancel: Cancel = None) -> pd.DataFrame:
    """The tensors of a .safetensors file or of a checkpoint in shards, one row each, without loading it.

    Columns: tensor, dtype, shape, entries, bytes; of formats that may be weights also sparsity (the fraction of zeros), median,
    90 %, 99 % and largest of |w|, and not_finite (entries). Quantiles of formats of 16 bits and less are exact, those of
    float32 to 1 %. ``progress(bytes done, of all)``, ``cancel()``. Raises :class:`LoadError`, :class:`Cancelled`.
    """
    import pandas as pd

    source = checkpoint(no_paths(path))
    found = dict(tallies(source, None, progress, cancel))
    rows = [header_row(entry) | (_seen(found[name]) if name in found else {}) for name, entry in source.entries.items()]
    return pd.DataFrame(
        rows, columns=["tensor", "dtype", "shape", "entries", "bytes", "sparsity", *QUANTILES, "largest", "not_finite"]
    )


def _seen(one: Tally) -> dict[str, object]:
    steps = one.quantiles(101)
    quantiles = {name: float(steps[round(100 * share)]) for name, share in QUANTILES.items()}
    return {"sparsity": one.sparsity, **quantiles, "largest": one.largest, "not_finite": one.not_finite}


def file_thresholds(
    path: str | Path, sparsity: float, *, layers: str | Sequence[str] | None = None, scope: str = "layer", progress: Progress = None,
    cancel: Cancel = None,
) -> pd.DataFrame:  # fmt: skip
    """The threshold on |w| at which a file's tensors have a sparsity, without loading them.

    The threshold is the k-th smallest |w| with k = round(sparsity * n), of each tensor (scope "layer") or of all together
    ("global"); it is exact, float32 being looked at twice. layers: names or patterns; None: floating tensors of two or more dimensions. Columns: tensor,
    threshold (NaN where k is 0), entries, below (entries with |w| <= threshold: k and what ties with it).
    Raises :class:`RecipeError`, :class:`LoadError`, :class:`Cancelled`.
    """
    import pandas as pd

    if not 0 <= sparsity <= 1 or scope not in SCOPES:
        raise RecipeError(
            say(
                "sparsity={sparsity}, scope={scope!r}; accepted: 0 to 1, layer or global",
                sparsity=sparsity,
                scope=scope,
            )
        )
    source = checkpoint(no_paths(path))
    names = [name for name, entry in source.entries.items() if _chosen(entry, layers)]
    if not names:
        raise RecipeError(say("{layers}: no tensor of the file; accepted: names or patterns", layers=str(layers)[:200]))
    found = dict(tallies(source, names, progress, cancel))
    cuts = cut(source, found, sparsity, scope, cancel)
    rows = []
    for name, one in found.items():
        t = cuts[name]
        below = one.below(t, lambda _, key: inside(source, name, key, cancel)) if t == t else 0  # noqa: B023
        rows.append({"tensor": name, "threshold": t, "entries": one.total, "below": below})
    return pd.DataFrame(rows, columns=["tensor", "threshold", "entries", "below"])


def cut(
    source: Source, found: Mapping[str, Tally], sparsity: float, scope: str, cancel: Cancel = None
) -> dict[str, float]:
    """{tensor: its threshold}; NaN where nothing is cut."""
    owners = {id(one): name for name, one in found.items()}

    def look(one: Tally, key: int) -> object:
        return inside(source, owners[id(one)], key, cancel)

    groups = [list(found)] if scope == "global" else [[name] for name in found]
    out: dict[str, float] = {}
    for names in groups:
        members = [found[name] for name in names]
        k = round(sparsity * sum(one.total for one in members))
        out |= dict.fromkeys(names, kth(members, k, look) if k else float("nan"))  # type: ignore[arg-type]
    return out


def _chosen(entry: Entry, layers: str | Sequence[str] | None) -> bool:
    if entry.dtype not in COUNTED or not entry.numel:
        return False
    if layers is None:
        return entry.dtype in FLOATING and len(entry.shape) >= 2
    return any(matches(one, entry.name) for one in ([layers] if isinstance(layers, str) else layers))
