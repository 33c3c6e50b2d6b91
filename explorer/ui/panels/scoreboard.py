"""The scoreboard: main metric, loss, size, MACs, sparsity; each with its change and its kind; and who is hurt most."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from explorer.core.report import Counts, Figure, Report

from .. import format as fmt
from ..i18n import _, help_for
from . import status

FEW = 20  # samples of a class: of fewer, one answer moves its recall by many points


@dataclass(frozen=True)
class Card:
    """One figure: key of its term, value, kind, and a note of (css class, text) pieces."""

    term: str
    name: str
    value: str
    kind: str
    note: tuple[tuple[str, str], ...] = ()


def kind_name(kind: str) -> str:
    """measured, counted or estimated, in the viewer's language."""
    return {"measured": _("measured"), "counted": _("counted"), "estimated": _("estimated")}[kind]


def split_name(split: str) -> str:
    """validation, test or train; a split of the user's own keeps its name."""
    return {"validation": _("validation"), "test": _("test"), "train": _("train")}.get(split, split)


def metric_name(name: str) -> str:
    """A metric's name on screen; a custom task's names stay as they are."""
    names = {
        "accuracy": _("Accuracy"), "precision": _("Precision"), "recall": _("Recall"), "f1": _("F1"),
        "loss": _("Loss"), "r2": _("R²"), "rmse": _("RMSE"), "mae": _("MAE"), "perplexity": _("Perplexity"),
        "agreement": _("Agreement"), "kl": _("KL divergence"), "cosine": _("Cosine"), "difference": _("Difference"),
        "cross_entropy": _("Cross-entropy"), "next_token_accuracy": _("Next-token accuracy"),
    }  # fmt: skip
    return names.get(name, name)


def style_of(change: Figure, lower: bool) -> str:
    """Better or worse, as far as one knows: neither where the interval, if there is one, has both."""
    if change.value == 0 or (change.low is not None and change.high is not None and change.low <= 0 <= change.high):
        return ""
    return "x-worse" if (change.value > 0) == lower else "x-better"


def moved(name: str, change: Figure, lower: bool) -> tuple[str, str]:
    """(css class, text) of a change: what is shown as nothing has no colour either."""
    text = fmt.change(name, change.value, change.low, change.high)
    return ("" if text.startswith("±") else style_of(change, lower), text)


def _metric(report: Report, name: str) -> Card:
    shown: Figure = report.figure(name)
    change = report.change(name)
    seen = _("n = {n}", n=f"{report.n:,}") if report.complete else _("{n} of {total}", n=f"{report.n:,}", total=f"{report.total:,}")
    if name == report.main:
        seen = f"{split_name(report.split)}, {seen}"
    if not report.recipe.rules:
        return Card(name, metric_name(name), fmt.metric(name, shown.value), kind_name(shown.kind), (("", _("the original") + " · " + seen),))
    interval = fmt.half_width(name, change.low, change.high)
    note = [moved(name, change, name in report.lower_is_better), ("", " ".join(filter(None, (interval, "·")))), ("x-seen", seen)]
    return Card(name, metric_name(name), fmt.metric(name, shown.value), kind_name(shown.kind), tuple(note))


def cards(report: Report, original: Counts) -> list[Card]:
    """The five cards of a report. original: what the original consists of."""
    second = "loss" if "loss" in report.figures and report.main != "loss" else None
    other = [name for name in report.figures if name != report.main]
    chosen = second or (other[0] if other else None)
    return [
        _metric(report, report.main),
        *([_metric(report, chosen)] if chosen else []),
        _size(report.counts, original),
        _macs(report.counts, original),
        _sparsity(report.counts),
    ]


def _size(counts: Counts, before: Counts) -> Card:
    smaller = before.bytes / counts.bytes if counts.bytes else float("inf")
    if smaller > 1.0005:
        size_note = [("x-better", _("{times} smaller", times=f"{smaller:.{1 if smaller >= 1.1 else 3}f}×")), ("", _("of {size}", size=fmt.size(before.bytes)))]
    else:
        dense = counts.sizes["dense"]
        size_note = [("", _("dense, {dtype}", dtype=" + ".join(before.dtypes)) if counts.bytes == dense else _("of {size}", size=fmt.size(dense)))]
    return Card("size", _("Size"), fmt.size(counts.bytes), kind_name("counted"), tuple(size_note))


def _macs(counts: Counts, before: Counts) -> Card:
    if counts.macs is None:
        return Card("macs", _("MACs"), "–", kind_name("counted"), (("", _("not countable for this model")),))
    saved = 1 - counts.macs / before.macs if before.macs else 0.0
    if saved > 0:
        note = [("x-better", f"−{fmt.percent(saved, 0 if saved >= 0.1 else 1)}"), ("", _("after removal"))]
    else:
        note = [("", _("zeros alone save none") if counts.zeros_left > 0.001 else _("one sample"))]
    return Card("macs", _("MACs"), fmt.count(counts.macs), kind_name("counted"), tuple(note))


def _sparsity(counts: Counts) -> Card:
    pruned = sum(layer.original - layer.nonzero for layer in counts.layers.values())
    total = sum(layer.original for layer in counts.layers.values())
    sparse_note = [("", _("{pruned} of {total} weights", pruned=fmt.count(pruned), total=fmt.count(total)))]
    soft = sum(layer.attenuated for layer in counts.layers.values())
    if soft:
        sparse_note = [("", _("{n} weights attenuated", n=fmt.count(soft)))]
    return Card("sparsity", _("Sparsity"), fmt.percent(counts.sparsity), kind_name("counted"), tuple(sparse_note))


def counted(counts: Counts, before: Counts, why: str) -> tuple[str, str]:
    """(cards, line below) of a model that cannot be run: what is counted, and why nothing is measured."""
    made = [_size(counts, before), _sparsity(counts)]
    return board(made, 0, True), f'<div class="x-strip" aria-live="polite"><span>{escape(why)}</span></div>'


def hurt(report: Report, limit: int = 3) -> list[tuple[str, float]]:
    """The classes whose recall fell most: (name, change), worst first; only real losses, and of few samples none."""
    least = 1 if report.complete else FEW
    moved = [(name, score.recall - score.recall_before) for name, score in report.per_class.items() if score.support >= least]
    return sorted((item for item in moved if item[1] < -0.0005), key=lambda item: item[1])[:limit]


def _points(change: float) -> str:
    points = abs(100 * change)
    return f"{points:.1f}" if points < 9.95 else f"{points:.0f}"


def render(report: Report, original: Counts, live: bool = False) -> str:
    """The five cards as HTML. live: while a handle moves, of what is no step yet."""
    return board(cards(report, original), report.n, report.complete, live)


def board(made: list[Card], n: int, complete: bool, live: bool = False) -> str:
    """Cards as HTML, over n samples."""
    return '<div class="x-board" role="group" aria-label="{label}" data-n="{n}" data-complete="{complete}"{live}>{cards}</div>'.format(
        live=" data-live" if live else "", label=escape(_("Scoreboard")), n=n, complete=str(complete).lower(), cards="".join(map(_card, made))
    )


def _card(card: Card) -> str:
    note = " ".join(f'<span class="{css}">{escape(text)}</span>' for css, text in card.note)
    plain = escape(" ".join(text for _css, text in card.note))
    explained = escape(help_for("term", card.term, ""))
    return (
        f'<div class="x-card" data-figure="{escape(card.term)}"><header><span class="x-name" title="{explained}">{escape(card.name)}</span>'
        f'<span class="x-kind">{escape(card.kind)}</span></header><div class="x-value">{escape(card.value)}</div>'
        f'<div class="x-note" title="{plain}">{note}</div></div>'
    )


def skeleton() -> str:
    """What stands there until the first figures are in."""
    empty = '<div class="x-card"><header><span class="x-name">…</span></header><div class="x-value">–</div><div class="x-note"></div></div>'
    return f'<div class="x-blank" aria-busy="true">{empty * 5}</div>'


def strip(report: Report | None, progress: tuple[int, int, float] | None = None, gap: float | None = None, over: bool = False) -> str:
    """The line under the cards: who is hurt most; while evaluating, how far and how long still. over: shown in place of the other one."""
    pieces = []
    if report is not None:
        worst = hurt(report)
        if worst:
            names = ", ".join(f"{escape(name)} <span class='x-worse'>−{_points(change)}</span>" for name, change in worst)
            pieces.append(f"<span>{escape(_('Hurt most (recall, points)'))}: {names}</span>")
        wrong, right = report.flips if report.task == "classification" else (0, 0)
        if wrong or right:
            text = _("of {n} answers {wrong} now wrong, {right} now right", wrong=f"{wrong:,}", right=f"{right:,}", n=f"{report.n:,}")
            pieces.append(f"<span>{escape(text)}</span>")
    if gap is not None:
        said = _("removal verified: difference from masking {gap}", gap=f"{gap:.0e}" if gap else "0")
        pieces.append(f'<span title="{escape(help_for("term", "verified", ""))}">✓ {escape(said)}</span>')
    if progress is not None and progress[1]:
        done, total, left = progress
        text = _("evaluating {done} of {total}", done=f"{done:,}", total=f"{total:,}") + " · " + _("{left} left", left=fmt.duration(left))
        pieces.append(f'<span class="x-bar"><i style="width:{100 * done / total:.0f}%"></i></span><span>{escape(text)}</span>')
    if report is not None:
        pieces.append(status.line(report))
    return f'<div class="x-strip{" x-over" if over else ""}" aria-live="polite">{"".join(pieces)}</div>'
