"""Why is it not smaller, why is it not faster: counted, weighed, timed, and said in sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ..compress.apply import compress
from ..compress.plan import Plan
from ..compress.resolve import resolve
from ..core.errors import EvaluationError, RecipeError
from ..core.explanation import Energy, Explanation
from ..core.message import say
from ..core.recipe import Recipe
from ..evaluate.costs import counts
from ..export.exporters import registry
from ..models.calls import calls
from ..models.device import pick, wait
from ..models.subject import Subject
from . import energy, nvml
from .artefacts import artefacts
from .latency import latencies
from .parts import parts
from .roofline import roofline as measure_roofline
from .surprises import surprises

DEFAULT = ("safetensors", "onnx", "onnx-int8", "onnx-int4", "packed")


def explain(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    formats: Sequence[str] = DEFAULT,
    batches: Sequence[int] = (1, 64),
    seconds: float = 1.0,
    roofline: bool = True,
    device: str | torch.device | None = None,
    cancel: Callable[[], bool] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Explanation:
    """Size and speed of a recipe: bytes counted and on disk, latency of each file, energy, and why they are as they are.

    formats: names from ``exporters()``; each file is written, loaded again and compared as by ``export`` (on validation; the
    test split is not read). batches: samples a call. seconds: of measuring for each batch size. ``progress(done, total)`` in
    thousandths. Raises :class:`RecipeError` (recipe, unknown format, a batch below 1), :class:`Cancelled` and what evaluation
    raises; a format that cannot hold the model becomes a file with a ``problem``.
    """
    recipe = recipe if recipe is not None else Recipe()
    _check(formats, batches, seconds)
    where = pick(device)
    plan = resolve(subject, recipe)
    whole, layers = parts(subject, plan)

    def share(start: float, stop: float) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(round(1000 * (start + (stop - start) * done / max(total, 1))), 1000)

        return tell

    with artefacts(subject, recipe, formats, cancel, share(0, 0.6)) as (made, files):
        times = latencies(subject, made, batches, seconds, where, cancel, share(0.6, 0.8))
    share(0.8, 0.9)(0, 1)
    roof = measure_roofline(subject, plan, max(batches), "cpu", cancel) if roofline else None
    share(0.9, 1)(0, 1)
    estimated = energy.estimate(subject, Plan({}, {})), energy.estimate(subject, plan)
    made_of = counts(subject, plan)
    found = Explanation(
        subject=subject.name,
        recipe=recipe.digest,
        counted=whole,
        counted_before=parts(subject, Plan({}, {}))[0],
        layers=layers,
        files=tuple(files),
        macs=made_of.macs,
        macs_before=counts(subject, Plan({}, {})).macs,
        latencies=tuple(times),
        energy=(estimated[0], estimated[1]) if estimated[0] and estimated[1] else None,
        measured_energy=_measured(subject, plan, max(batches), where),
        roofline=roof,
        surprises=(),
    )
    share(1, 1)(1, 1)
    return replace(found, surprises=tuple(surprises(subject, plan, found)))


def _check(formats: Sequence[str], batches: Sequence[int], seconds: float) -> None:
    if isinstance(formats, str) or not formats:
        raise RecipeError(
            say("formats={value}; accepted: a list of {names}", value=repr(formats), names=", ".join(registry))
        )
    for name in formats:
        registry[name]
    if not batches or any(isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 65_536 for n in batches):
        raise RecipeError(say("batches={value}; accepted: whole numbers from 1 to 65536", value=str(batches)[:80]))
    if not 0 < seconds <= 600:
        raise RecipeError(say("seconds={value}; accepted: above 0, at most 600", value=str(seconds)[:40]))


def _measured(subject: Subject, plan: Plan, batch: int, device: torch.device) -> tuple[Energy, Energy] | None:
    """Joules a sample on an NVIDIA GPU, of the original and of the compressed module; None elsewhere."""
    library = nvml.library() if device.type == "cuda" else None
    if library is None:
        return None
    found = []
    for one in (Plan({}, {}), plan):
        module = compress(subject, one).to(device)
        call = calls(subject, subject.copy().to("cpu"), (batch,))[0].to(device)

        def run(module: torch.nn.Module = module, call: object = call) -> None:
            with torch.inference_mode():
                call(module)  # type: ignore[operator]
            wait(device)

        try:
            found.append(nvml.measure(run, batch, device.index or 0, nvml=library))
        except RuntimeError as error:
            raise EvaluationError(
                say("{name}: forward failed on {device}: {why}", name=subject.name, device=device, why=str(error)[:160])
            ) from error
    return (found[0], found[1]) if found[0] and found[1] else None
