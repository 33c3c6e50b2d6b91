"""Subject + Recipe -> a folder for others: files, masks, recipe, report, README. Verified, or nothing."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..compress.apply import compress
from ..compress.plan import Plan
from ..compress.resolve import resolve
from ..core.errors import Cancelled, ExportError, RecipeError
from ..core.message import say
from ..core.recipe import Recipe
from ..core.report import Report
from ..evaluate.evaluator import evaluate
from ..models.removal import select
from ..models.subject import Subject, checked
from .agreement import Agreement
from .exporters import Exporter, registry
from .writing import agreement, meant, write

FORMATS = ("safetensors", "onnx")


@dataclass(frozen=True, eq=False)
class Bundle:
    """What was exported.

    files: {name: bytes on disk}. checks: {file: largest relative difference to the compressed module's outputs}.
    report: on the test split, or on validation where the task has no test split. notes: what a reader must know.
    agreements: {file: how far it answers as its simulation}, of files that round more than the recipe does.
    """

    folder: Path
    files: Mapping[str, int]
    checks: Mapping[str, float]
    report: Report
    notes: tuple[str, ...] = ()
    agreements: Mapping[str, Agreement] = field(default_factory=dict)

    def zip_bytes(self) -> bytes:
        """The folder as one zip, as bytes to send."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in self.files:
                archive.write(self.folder / name, f"{self.folder.name}/{name}")
        return buffer.getvalue()

    @cached_property
    def zip_path(self) -> Path:
        """The zip as a file beside the folder, written when first asked for. Raises :class:`ExportError`."""
        path = self.folder.parent / f"{self.folder.name}.zip"
        try:
            with path.open("xb") as file:
                file.write(self.zip_bytes())
        except OSError as error:
            raise ExportError(
                say(
                    "{path}: the zip cannot be written ({reason}); move what is there away",
                    path=path,
                    reason=error.strerror,
                )
            ) from None
        return path


class _Steps:
    """Progress in thousandths, and the question whether to go on."""

    def __init__(self, progress: Callable[[int, int], object] | None, cancel: Callable[[], bool] | None) -> None:
        self.progress, self.cancel = progress, cancel

    def at(self, share: float, what: str) -> None:
        if self.cancel is not None and self.cancel():
            raise Cancelled(say("export cancelled before {what}; nothing was left behind", what=what))
        if self.progress is not None:
            self.progress(round(1000 * share), 1000)

    def within(self, start: float, stop: float) -> Callable[[int, int], None]:
        return lambda done, total: self.at(start + (stop - start) * done / max(total, 1), say("the evaluation's end"))


def export(
    subject: Subject,
    recipe: Recipe,
    folder: str | Path,
    formats: str | Sequence[str] = FORMATS,
    *,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], object] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Bundle:
    """Write the compressed model into ``folder``, with all that is needed to trust and to reuse it.

    The folder must not exist, or be empty. formats: names from ``exporters()``. Every file is loaded again and its
    outputs compared with the compressed module's before the folder appears; a failed export leaves nothing behind.
    The test split is read here, once; without one the figures are validation's. ``progress(done, total)``.
    Raises :class:`ExportError`, :class:`RecipeError` (recipe, unknown format), :class:`VerificationError`,
    :class:`Cancelled` and what evaluation raises.
    """
    if checked(subject).task.kind == "weights":
        raise ExportError(
            say("{subject}: {why}, so no file could be verified; explorer.compress gives the module", subject=subject.name, why=subject.task.why)
        )
    folder = Path(folder).absolute()
    chosen = _formats(formats)
    _must_be_free(folder)
    steps = _Steps(progress, cancel)
    steps.at(0, say("compressing"))
    plan = resolve(subject, recipe)
    module = compress(subject, plan).to("cpu")
    splits = [name for name in ("validation", "test") if name in subject.task.splits]
    reports: dict[str, tuple[Report, Report]] = {}
    for i, split in enumerate(splits):  # {split: (original, compressed)}
        share = steps.within(0.05 + 0.45 * i / len(splits), 0.05 + 0.45 * (i + 1) / len(splits))
        after = evaluate(subject, recipe, split=split, device=device, cancel=cancel, progress=share)
        reports[split] = evaluate(subject, Recipe(), split=split, device=device), after
    with _workplace(folder) as place:
        checks: dict[str, float] = {}
        notes: list[str] = []
        used: dict[str, str] = {}
        agreements: dict[str, Agreement] = {}
        for i, (name, exporter) in enumerate(chosen.items()):
            start = 0.5 + 0.45 * i / len(chosen)
            steps.at(start, say("writing {name}", name=name))
            mine, model = meant(exporter, subject, recipe, plan, module)
            checks |= write(exporter, name, subject, mine, model, place, notes)
            used[exporter.title] = exporter.usage(subject, model)
            if exporter.simulated:
                share = steps.within(start, start + 0.45 / len(chosen))
                agreements[exporter.filename] = agreement(exporter, subject, mine, model, place, cancel, share)
        steps.at(0.95, say("writing the report"))
        _companions(subject, recipe, plan, module, reports, checks, tuple(notes), used, place, agreements)
        files = {path.name: path.stat().st_size for path in sorted(place.iterdir())}
        steps.at(1, say("moving the folder into place"))
        _move(place, folder)
    return Bundle(folder, files, checks, reports[splits[-1]][1], tuple(notes), agreements)


def _formats(formats: str | Sequence[str]) -> dict[str, Exporter]:
    names = (formats,) if isinstance(formats, str) else tuple(formats)
    if not names:
        raise RecipeError(say("no format; accepted: one or more of {formats}", formats=", ".join(registry)))
    return {name: registry[name]() for name in names}


def _must_be_free(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()):
            raise ExportError(
                say("{folder}: the folder is not empty; accepted: a new folder or an empty one", folder=folder)
            )
    elif folder.exists() or folder.is_symlink():
        raise ExportError(say("{folder}: this is a file; accepted: a new folder or an empty one", folder=folder))


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder beside the target, on the same disk; gone afterwards, with parents that were made for it."""
    parents = [one for one in folder.parents if not one.exists()]
    place = folder.parent / f".{folder.name[:40]}.{secrets.token_hex(4)}.part"
    try:
        try:
            place.mkdir(parents=True)
        except OSError as error:
            raise ExportError(
                say("{folder}: cannot be created; accepted: a folder that you may write to, on a disk with room ({reason})", folder=folder, reason=error.strerror or str(error))
            ) from None
        yield place
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        for parent in parents:
            try:
                parent.rmdir()
            except OSError:
                break
        raise
    shutil.rmtree(place, ignore_errors=True)


def masks_of(plan: Plan) -> dict[str, Tensor]:
    """{layer: bool} masks in the shapes of the compressed module, True where the weight stays; of layers that are gone, none."""
    found = {name: select(mask.detach().cpu(), dict(plan.dropped.get(name, {}))).clone() for name, mask in plan.masks.items()}
    return {name: mask for name, mask in found.items() if mask.numel()}


def _companions(
    subject: Subject,
    recipe: Recipe,
    plan: Plan,
    module: nn.Module,
    reports: Mapping[str, tuple[Report, Report]],
    checks: Mapping[str, float],
    notes: tuple[str, ...],
    used: Mapping[str, str],
    place: Path,
    agreements: Mapping[str, Agreement],
) -> None:
    """masks.safetensors where something is pruned, recipe.json, report.json, README.md."""
    from .readme import MASKS, libraries, readme

    if masks := masks_of(plan):
        save_file(masks, place / MASKS, {"format": "pt"})
    _text(place / "recipe.json", recipe.to_json() + "\n")
    measured = {path.name: path.stat().st_size for path in sorted(place.iterdir())}
    splits = {split: after.to_dict() for split, (_, after) in reports.items()}
    if "test" in splits:  # which test samples flipped is an invitation to tune on them
        splits["test"].pop("changed")
    originals = {split: before.to_dict() for split, (before, _) in reports.items()}
    cost, history = [(one["cost"], one["history"]) for one in originals.values()][-1]
    for one in (*splits.values(), *originals.values()):  # said once
        del one["cost"], one["history"]
    report = {
        "format": "compression-explorer-report",
        "version": 1,
        "weights": subject.digest,
        "splits": splits,
        "original": originals,
        "cost": cost,
        "history": history,
        "checks": dict(checks),
        "agreements": {name: one.to_dict() for name, one in agreements.items()},
        "bytes_on_disk": measured,
        "notes": list(notes),
        "libraries": libraries(),
    }
    text = json.dumps(report, ensure_ascii=False, allow_nan=False, indent=1, default=str)
    _text(place / "report.json", text + "\n")
    measured["report.json"] = (place / "report.json").stat().st_size
    _text(place / "README.md", readme(subject, recipe, plan, reports, checks, notes, used, measured, agreements))


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _move(place: Path, folder: Path) -> None:
    """Into an empty folder file by file (it may be somebody's mount point), else by one rename."""
    try:
        _must_be_free(folder)  # somebody else may have been faster
        if not folder.is_dir():
            place.rename(folder)
            return
        moved: list[Path] = []
        try:
            for path in sorted(place.iterdir()):
                moved.append(Path(shutil.move(path, folder / path.name)))
        except OSError:
            for path in moved:
                path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ExportError(
            say("{folder}: cannot be written; accepted: a folder that you may write to, on a disk with room ({reason})", folder=folder, reason=error.strerror or str(error))
        ) from None
