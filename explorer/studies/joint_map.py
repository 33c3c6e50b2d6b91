"""Pruning and quantizing together: the metric and the bytes of every sparsity with every number of bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import torch

from ..compress.resolve import known, resolve
from ..core.checks import as_targets, shown
from ..core.errors import Cancelled, RecipeError
from ..core.joint import UNQUANTIZED, Cell, frontier
from ..core.message import say
from ..core.recipe import Recipe
from ..core.targets import select
from ..evaluate.evaluator import look, stages
from ..models.subject import Subject, checked

if TYPE_CHECKING:
    import pandas

SPARSITIES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
BITS = (2, 3, 4, 5, 6, 8, UNQUANTIZED)
FIRST = 512  # samples of the first pass over all cells, at most


def refining(rows: int, columns: int) -> list[tuple[int, int]]:
    """Every (row, column) once: the corners, then what halves the largest gaps, so that the map sharpens everywhere alike.

    The order of a row or column is the level of the bisection at which its index appears.
    """

    def level(n: int) -> list[int]:
        out = [0] * n
        spans, depth = [(0, n - 1)], 1
        while spans:
            finer = []
            for low, high in spans:
                if high - low > 1:
                    middle = (low + high) // 2
                    out[middle] = depth
                    finer += [(low, middle), (middle, high)]
            spans, depth = finer, depth + 1
        return out

    row, column = level(rows), level(columns)
    return sorted(
        ((r, c) for r in range(rows) for c in range(columns)), key=lambda at: (max(row[at[0]], column[at[1]]), at)
    )


class Settings(TypedDict, total=False):
    """What a map is of, and how it is judged; each may be left out.

    sparsities, bits: its columns and rows; bits 32 leaves the weights as they are. scope: "global" ranks over all layers (the
    default for several), "layer" each by itself. recipe: what holds for the other layers; its rules for these layers are replaced.
    """

    sparsities: Sequence[float]
    bits: Sequence[int]
    criterion: str
    scope: Literal["layer", "global"] | None
    quantizer: str
    granularity: Literal["tensor", "channel", "group", "gate"]
    recipe: Recipe | None
    split: str
    device: str | torch.device | None
    cancel: Callable[[], bool] | None


DEFAULTS = Settings(
    sparsities=SPARSITIES, bits=BITS, criterion="l1", scope=None, quantizer="minmax", granularity="channel", recipe=None,
    split="validation", device=None, cancel=None,
)  # fmt: skip


def joint_cells(subject: Subject, layers: str | Sequence[str] = "*", **settings: Unpack[Settings]) -> Iterator[Cell]:
    """Cells of the map as they become known: all on few samples first, in a refining order, then all on more, then on all.

    layers: targets, as of a rule. settings: :class:`Settings`. The order within a cell is mask first, then quantize the survivors:
    ranges and codebooks are those of the pruned weights, and zeros stay zero. Raises :class:`RecipeError` before anything is
    evaluated, :class:`Cancelled`.
    """
    _known(settings)
    chosen: Settings = {**DEFAULTS, **settings}
    found = _cells(subject, layers, chosen)
    return _evaluate(subject, found, chosen["split"], chosen["device"], chosen["cancel"])


def _known(settings: Mapping[str, object]) -> None:
    for name in settings:
        if name not in DEFAULTS:
            raise TypeError(f"unexpected argument {name!r}; accepted: {', '.join(DEFAULTS)}")


def _listed(values: object) -> tuple[Any, ...]:
    """The values of a list, of an array, too; none of anything else."""
    return tuple(getattr(values, "tolist", lambda: values)()) if isinstance(values, Iterable) and not isinstance(values, str) else ()


def _cells(
    subject: Subject, layers: str | Sequence[str], chosen: Settings
) -> dict[tuple[int, int], tuple[float, int, Recipe]]:
    """{(row, column): (sparsity, bits, recipe)}, all of them resolved."""
    checked(subject)
    sparsities, bits, scope = _listed(chosen["sparsities"]), _listed(chosen["bits"]), chosen["scope"]
    for name, values, good in (
        ("sparsities", sparsities, lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v < 1),
        (
            "bits",
            bits,
            lambda v: isinstance(v, int) and not isinstance(v, bool) and (1 <= v <= 8 or v in (16, UNQUANTIZED)),
        ),
    ):
        if not values or not all(map(good, values)) or len(set(values)) < len(values):
            raise RecipeError(
                say(
                    "{name}={values}; accepted: different sparsities in [0, 1), bits from 1 to 8, 16, or 32 for weights as they are",
                    name=name, values=shown(chosen["bits"] if name == "bits" else chosen["sparsities"]),
                )
            )  # fmt: skip
    named = [layer.name for layer in select(as_targets(layers), subject.layers, subject.name)]
    if scope not in (None, "layer", "global"):
        raise RecipeError(say("scope={scope}; accepted: layer, global", scope=shown(scope)))
    reach = scope or ("global" if len(named) > 1 else "layer")
    base = known(chosen["recipe"] or Recipe()).clear(named, kind="weight-prune").clear(named, kind="weight-quantize")
    found = {}
    for row, width in enumerate(bits):
        for column, sparsity in enumerate(sparsities):
            made = base
            if sparsity > 0:
                made = made.prune(named, sparsity=float(sparsity), criterion=chosen["criterion"], scope=reach)
            if width != UNQUANTIZED:
                made = made.quantize(
                    named, bits=width, quantizer=chosen["quantizer"], granularity=chosen["granularity"]
                )
            found[row, column] = (float(sparsity), width, made)
    for row in range(len(bits)):  # whatever is wrong with a number of bits is said now
        resolve(subject, found[row, 0][2])
    resolve(subject, found[0, len(sparsities) - 1][2])
    return found


def _evaluate(
    subject: Subject,
    cells: dict[tuple[int, int], tuple[float, int, Recipe]],
    split: str,
    device: str | torch.device | None,
    cancel: Callable[[], bool] | None,
) -> Iterator[Cell]:
    order = refining(1 + max(row for row, _ in cells), 1 + max(column for _, column in cells))
    known = stages(subject, split=split, device=device)
    first, total = known[0], known[-1]
    passes = sorted({min(first, FIRST), min(4 * FIRST, total), total})
    for n in passes:
        for row, column in order:
            if cancel is not None and cancel():
                raise Cancelled(say("{name}: the map was cancelled", name=subject.name))
            sparsity, bits, recipe = cells[row, column]
            report = look(subject, recipe, n, split=split, device=device, cancel=cancel)
            seen = report.figure(report.main)
            yield Cell(
                row, column, sparsity, bits, report.main, seen.value, seen.low, seen.high, report.change(report.main).value,
                report.n, report.total, report.bytes, recipe,
            )  # fmt: skip


def joint_map(
    subject: Subject,
    layers: str | Sequence[str] = "*",
    *,
    progress: Callable[[int, int], object] | None = None,
    **settings: Unpack[Settings],
) -> pandas.DataFrame:
    """The whole map on all samples: one row a cell, with columns sparsity, bits, metric, value, low, high, change, n, bytes, pareto.

    pareto: whether no other cell is as small and better, or better and as small. Arguments and errors: :func:`joint_cells`,
    which yields the cells as they become known. ``progress(done, total)`` in cells; a cancelled map raises :class:`Cancelled`.
    """
    import pandas

    last: dict[tuple[int, int], Cell] = {}
    cells = joint_cells(subject, layers, **settings)
    total = len(settings.get("sparsities", SPARSITIES)) * len(settings.get("bits", BITS))
    for cell in cells:
        last[cell.row, cell.column] = cell
        if progress is not None:
            progress(sum(one.complete for one in last.values()), total)
    best = set(map(id, frontier(last.values(), next(iter(last.values())).metric in subject.task.lower_is_better)))
    names = ("sparsity", "bits", "metric", "value", "low", "high", "change", "n", "bytes")
    rows = [
        {name: getattr(cell, name) for name in names} | {"pareto": id(cell) in best} for _, cell in sorted(last.items())
    ]
    return pandas.DataFrame(rows)
