"""Per-layer sparsities (or bits) from sensitivity curves, for a size, an accepted drop or a sparsity of the whole model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..compress.resolve import resolve
from ..core.errors import RecipeError
from ..core.message import say
from ..core.recipe import Recipe
from ..core.report import FRACTIONS, Report
from ..evaluate.costs import counts
from ..evaluate.sweep import Sweep, Target
from ..models.subject import Subject, checked
from .curve_table import targets_in
from .curves import Move, Step, first, path, worst
from .trials import Trials

if TYPE_CHECKING:
    import pandas as pd

Goal = Literal["size", "drop", "sparsity"]
NEEDED = ("layer", "group", "granularity", "kind", "metric", "n", "change")


@dataclass(frozen=True)
class Decision:
    """What was decided for one layer or group, and why.

    point: its sparsity or bits, None if it is left as it is. drop: of the metric when it alone is changed so (positive is worse),
    low, high: its interval; saved: bytes (of the whole model) that it alone saves; price: drop per byte saved of its last step;
    next_price: of the step that was not made.
    """

    target: str
    layers: tuple[str, ...]
    point: float | None
    drop: float
    low: float | None
    high: float | None
    n: int
    saved: float
    price: float
    next_price: float | None
    reason: str


@dataclass(frozen=True)
class Suggestion:
    """A recipe for a goal, with a decision a layer or group.

    goal, wanted: what was asked for. predicted: the sum of the layers' drops. measured: the drop of all of them together, and
    report the evaluation that says so: drops of layers do not add up, since what one layer loses the next may not miss, or may
    miss twice.
    """

    recipe: Recipe
    decisions: tuple[Decision, ...]
    goal: Goal
    wanted: float
    predicted: float
    measured: float
    report: Report

    @property
    def reasons(self) -> dict[str, str]:
        """{layer or group: why}."""
        return {decision.target: decision.reason for decision in self.decisions}

    def table(self) -> pd.DataFrame:
        """The decisions, a row each."""
        import pandas as pd

        return pd.DataFrame([vars(decision) for decision in self.decisions])


def suggest(
    subject: Subject,
    table: pd.DataFrame,
    *,
    size: float | None = None,
    drop: float | None = None,
    sparsity: float | None = None,
    device: Any = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    user: Hashable = None,
) -> Suggestion:
    """A sparsity (or bits) for every layer or group of a table that :func:`explorer.sensitivity` made.

    One goal: size (bytes of the whole model, at most), drop (of the main metric, as a fraction, at most), or sparsity (of all
    weights, at least). Every curve is replaced by its lower convex hull over the bytes that it saves, and the steps of all hulls
    are made in order of their price, drop per byte: the Lagrangian optimum where drops and savings add up (Everett 1963; Shoham,
    Gersho 1988). They do not quite: therefore the length of that path is found by bisection on the whole model: sizes and
    sparsities are counted, and the drop is measured by :func:`explorer.evaluate` on the table's split. So the goal is met by the
    model itself, not by the sum. Chosen on that split, the drop is a little flattered; the export scores the test split.

    ``progress(done, total)`` counts evaluations. Raises :class:`RecipeError` (no goal, or one that the scanned steps cannot
    reach), :class:`Cancelled`.
    """
    goal, wanted = _goal(size, drop, sparsity)
    about = _about(subject, table, goal)
    sweep, base = about["sweep"], about["recipe"]
    there = targets_in(table)
    targets = {name: target for name, (target, _) in there.items()}
    curves = {
        name: _steps(subject, about, target, rows, "weights" if goal == "sparsity" else "bytes")
        for name, (target, rows) in there.items()
    }
    moves = path(curves)
    trials = Trials(subject, sweep, base, targets, moves, about, device, cancel, user, progress)
    k = _length(goal, wanted, trials, len(moves))
    chosen = trials.points(k)
    decisions = tuple(
        _decide(name, targets[name].layers, curves[name], moves, k, chosen.get(name), goal, about["metric"], sweep.by)
        for name in curves
    )
    report = trials.report(k)
    predicted = worst([decision.drop for decision in decisions])
    return Suggestion(trials.recipe(k), decisions, goal, wanted, predicted, trials.drop(k), report)


def _goal(size: float | None, drop: float | None, sparsity: float | None) -> tuple[Goal, float]:
    asked: dict[Goal, float | None] = {"size": size, "drop": drop, "sparsity": sparsity}
    given = {name: value for name, value in asked.items() if value is not None}
    if len(given) != 1:
        raise RecipeError(
            say(
                "give one goal: size= (bytes), drop= or sparsity= (fractions); got {given}",
                given=", ".join(given) or say("none"),
            )
        )
    [(name, value)] = given.items()
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fine = number and (value > 0 if name == "size" else 0 <= value < 1 if name == "sparsity" else value >= 0)
    if not fine:
        accepted = {
            "size": say("bytes above 0"),
            "drop": say("a number from 0, in units of the metric"),
            "sparsity": say("a number in [0, 1)"),
        }[name]
        raise RecipeError(say("{name}={value!r}; accepted: {accepted}", name=name, value=value, accepted=accepted))
    return name, float(value)


def _about(subject: Subject, table: Any, goal: str) -> dict[str, Any]:
    checked(subject)
    about = getattr(table, "attrs", {})
    if not isinstance(about.get("sweep"), Sweep) or not all(name in table.columns for name in NEEDED):
        raise RecipeError(say("the table does not say how it was made; accepted: what explorer.sensitivity returned"))
    if about["subject"] != subject.name:
        raise RecipeError(
            say("the table is of {other}, not of {subject}", other=about["subject"], subject=subject.name)
        )
    if goal == "sparsity" and (about["sweep"].by == "bits" or about["sweep"].mode != "hard"):
        raise RecipeError(
            say("sparsity= needs curves of hard pruning: bits and attenuation make no zeros; accepted: size= or drop=")
        )
    return dict(about)


def _steps(subject: Subject, about: Mapping[str, Any], target: Target, rows: pd.DataFrame, what: str) -> list[Step]:
    """A curve's steps, the first of which changes nothing."""
    sweep, base = about["sweep"], about["recipe"]
    start = counts(subject, resolve(subject, base))
    sign = 1.0 if about["lower_is_better"] else -1.0
    steps = [Step(None)]
    for row in rows.to_dict("records"):
        found = counts(subject, resolve(subject, sweep.edit(base, target, row[sweep.by])))
        saved = start.bytes - found.bytes if what == "bytes" else start.nonzero - found.nonzero
        low, high = _bounds(row, sign)
        steps.append(Step(float(row[sweep.by]), sign * row["change"], low, high, int(row["n"]), float(saved)))
    return steps


def _bounds(row: Mapping[str, Any], sign: float) -> tuple[float | None, float | None]:
    ends = [row.get("change_low"), row.get("change_high")]
    if any(end is None or end != end for end in ends):
        return None, None
    low, high = sorted(sign * float(end) for end in ends)  # type: ignore[arg-type]
    return low, high


def _length(goal: Goal, wanted: float, trials: Trials, most: int) -> int:
    """How many moves of the path are made."""
    if goal == "drop":
        beyond = first(most, lambda k: trials.drop(k) > wanted)
        return most if beyond is None else max(0, beyond - 1)
    if goal == "size":
        found, reached = first(most, lambda k: trials.counted(k).bytes <= wanted), trials.counted(most).bytes
    else:
        found, reached = first(most, lambda k: trials.counted(k).sparsity >= wanted), trials.counted(most).sparsity
    if found is None:
        raise RecipeError(
            say(
                "{goal}={wanted:g} is out of reach: the scanned steps come to {reached:g}; accepted: that, or a table of further steps",
                goal=goal,
                wanted=wanted,
                reached=reached,
            )
        )
    return found


def _decide(
    name: str,
    layers: tuple[str, ...],
    steps: list[Step],
    moves: list[Move],
    k: int,
    point: float | None,
    goal: Goal,
    metric: str,
    by: str,
) -> Decision:
    """The decision for one curve, in words."""

    def shown(step: Step) -> str:
        return (
            say("{bits:.0f} bits", bits=step.point)
            if by == "bits"
            else say("{percent:.0f} %", percent=100 * (step.point or 0))
        )

    mine = [(index, move) for index, move in enumerate(moves) if move.target == name]
    done, later = [move for index, move in mine if index < k], [move for index, move in mine if index >= k]
    step = done[-1].step if done else steps[0]
    following = later[0] if later else None
    price, next_price = done[-1].price if done else 0.0, following.price if following else None
    scale, what = (100.0, say("points of {metric}", metric=metric)) if metric in FRACTIONS else (1.0, say("of {metric}", metric=metric))
    dear = following is None or 1000 * scale * following.price >= 0.01  # a price that can be read needs no exponent
    units = {True: say("kB"), False: say("MB")} if goal != "sparsity" else {True: say("1,000 weights"), False: say("million weights")}
    cost_of = {"price": (1000 if dear else 1_000_000) * scale * (next_price or 0.0), "what": what, "unit": units[dear]}
    if not mine:
        reason = say("left as it is: no scanned step saves anything")
    elif following is not None and not done:
        step_costs = say("its first step, {point}, costs {price:.3g} {what} for every {unit}", point=shown(following.step), **cost_of)
        why = say("more than the accepted drop leaves") if goal == "drop" else say("and the goal is met without it")
        reason = say("left as it is: {what}, {why}", what=step_costs, why=why)
    else:
        noise = step.low is not None and step.high is not None and step.low <= 0 <= step.high
        if step.drop <= 0:
            cost = say("alone it costs nothing")
        elif noise:
            cost = say("alone it costs nothing that {n} samples can tell", n=step.n)
        else:
            cost = say("alone it costs {drop:.4g} {what}", drop=scale * step.drop, what=what)
        end = say("no further step was scanned")
        if following is not None:
            end = say("the next step, {point}, would cost {price:.3g} {what} for every {unit}", point=shown(following.step), **cost_of)
        reason = say("{point}: {cost}; {end}", point=shown(step), cost=cost, end=end)
    return Decision(name, layers, point, step.drop, step.low, step.high, step.n, step.saved, price, next_price, reason)
