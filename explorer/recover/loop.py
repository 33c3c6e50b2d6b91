"""The one training loop: any task with a loss, any recipe, any schedule; watched, cancelled and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.errors import Cancelled, SettingsError, TaskError
from ..core.message import say
from ..core.recipe import Recipe
from ..core.report import Figure
from ..core.training import Epoch, Event, Note, Step
from ..evaluate.queue import queue_of
from ..models.device import pick, place
from ..models.joules import Meter, counter
from ..models.onnx_module import opaque
from ..models.subject import Subject, checked
from . import checkpoint
from .augment import Augment, described
from .objective import Objective
from .run import Run
from .schedules import Schedule, schedule_of
from .settings import Settings
from .step import Stepper, mixed

Cancel = Callable[[], bool] | None
BATCH_NORMS = nn.modules.batchnorm._BatchNorm


class Training:
    """A training as something that goes on: ``for event in training.events(): ...``, then ``training.subject()``.

    Everything that can be said before it starts is said by the constructor. The parent is never written to. ``cancel()`` is asked
    before every step; then the best state so far is kept. Before the first one it is asked at each batch, and there is nothing to keep. checkpoint: a file from which the same training goes on, with the same
    result as if it had never stopped; it is deleted by whoever has the result. ``doing(what, done, total)`` is told what goes on where no
    steps are taken, total: samples, or 0.
    """

    def __init__(
        self,
        subject: Subject,
        recipe: Recipe | None = None,
        settings: Settings | None = None,
        *,
        schedule: str | Mapping[str, Any] | Schedule = "one-shot",
        objective: Objective | None = None,
        augment: Augment | None = None,
        device: str | torch.device | None = None,
        cancel: Cancel = None,
        checkpoint: str | Path | None = None,
        user: Any = None,
        doing: Callable[[str, int, int], object] | None = None,
    ) -> None:
        checked(subject)
        self.settings = settings if settings is not None else Settings()
        self.schedule, self.objective = schedule_of(schedule), objective if objective is not None else Objective()
        self.recipe = recipe if recipe is not None else Recipe()
        self.cancel, self.file, self.user = cancel, Path(checkpoint) if checkpoint is not None else None, user
        self.doing = doing
        where = pick(device)
        if opaque(subject.module) is not None:
            raise TaskError(
                say(
                    "{subject}: ONNX Runtime computes no gradients, so an ONNX file cannot be trained; accepted: the PyTorch model",
                    subject=subject.name,
                )
            )
        if "train" not in subject.task.splits or subject.task.kind == "weights":
            raise TaskError(
                say(
                    "{subject}: there is no train split to learn from; accepted: a task with train=",
                    subject=subject.name,
                )
            )
        if self.settings.precision == "mixed" and where.type != "cuda":
            raise SettingsError(say('precision="mixed" on {device}; accepted there: full', device=str(where)))
        self.run = Run(subject, self.recipe, self.schedule.start(self.recipe), self.settings, where)
        self.data = subject.task.dataset("train")
        self.count = min(self.settings.samples or len(self.data), len(self.data))
        self.run.per_epoch = len(self._batches(self.count))
        self.run.steps = self.run.per_epoch * self.settings.epochs
        self.run.cancel = self.run.scorer.cancel = cancel
        self.stepper = Stepper(self.run, self.schedule, self.objective, augment)
        self.augment = described(augment)
        self.meter = Meter(counter(where))
        self.curve: list[Epoch] = []
        self.before: dict[str, Figure] = {}
        self.damaged: dict[str, Figure] = {}
        self.complete = False
        self._told = 0
        self._taken: Subject | None = None
        self._turn: Callable[[], AbstractContextManager[None]] = nullcontext
        self.objective.begin(self.run)

    def key(self) -> str:
        """What this training is: equal for equal subject, recipe, settings, schedule, objective and augmentation."""
        return checkpoint.key_of(self.run, self.schedule.to_dict(), self.objective, self.augment)

    def events(self) -> Iterator[Event]:
        """Train; ends early where ``cancel()`` says so. Raises :class:`TrainingError` (a loss that is no number, a batch that does not
        fit), :class:`Cancelled` before the first step, and what the user's forward, loss and score raise, as one message."""
        run, began, queue = self.run, time.perf_counter(), queue_of(self.run.device)
        self.meter.start()
        with queue.request(self.user, False, background=True, cancel=self.cancel) as request:
            self._turn = run.scorer.turn = lambda: queue.turn(request)
            try:
                yield from self._train(began)
                self.complete = True
            except Cancelled as error:
                if not run.step:
                    raise Cancelled(
                        say("{subject}: cancelled before the first step; nothing was changed", subject=run.subject.name)
                    ) from error
                request.cancel, request.background = None, False  # somebody waits for what there is
            finally:
                self.meter.stop()
            self.schedule.finish(run)
            yield from self._noted()
            if run.best_state is None or not self.complete:
                self._last()

    def _train(self, began: float) -> Iterator[Event]:
        run, settings = self.run, self.settings
        loss, first = 0.0, 0
        if self.file is not None and self.file.exists():
            self._do(say("reading the checkpoint"))
            loss, first = checkpoint.load(self.file, self)
            began -= run.seconds
            yield from self.curve
            yield from self._noted()
        else:
            self._do(say("evaluating the original"))
            self.before = run.scorer(run.subject.copy()._apply(lambda tensor: place(tensor, run.device)))
            self._do(say("evaluating the damaged model"))
            self.damaged = run.figures() if run.started.plan.state else dict(self.before)
            self._do(say("preparing the schedule"))
            self.schedule.begin(run)
            yield self._judged(None, self.damaged, began)
        run.scorer.cancel = None  # from now on there is something to keep, which has to be judged
        saved = time.perf_counter()
        self._do(say("taking the first steps"))
        self._steps()
        for epoch in range(run.epoch or 1, settings.epochs + 1):
            run.epoch = epoch
            if self._stops():
                break
            batches = self._batches(self.count)
            if not first:
                self.schedule.before_epoch(run)
                run.hold.refit(all=True)
                yield from self._noted()
                loss = 0.0
            for at in range(first, len(batches)):
                if self.cancel is not None and self.cancel():
                    raise Cancelled(
                        say("{subject}: training cancelled in epoch {epoch}", subject=run.subject.name, epoch=run.epoch)
                    )
                with self._turn():
                    run.step += 1
                    value = self.stepper(batches[at], self._rate())
                    run.seconds = time.perf_counter() - began
                self.meter.tick()
                loss += value * len(batches[at])
                yield from self._noted()
                if run.step % settings.log_every == 0 or at + 1 == len(batches):
                    yield Step(
                        run.epoch, run.step, run.steps, value, self._rate(), run.sparsity, run.seconds, self._left()
                    )
                if (
                    self.file is not None
                    and time.perf_counter() - saved > settings.checkpoint_seconds
                    and at + 1 < len(batches)
                ):
                    checkpoint.save(self.file, self, loss, at + 1)
                    saved = time.perf_counter()
            first = 0
            self.schedule.after_epoch(run)
            run.hold.check()
            self._do(say("evaluating epoch {epoch}", epoch=run.epoch))
            told = self._judged(loss / self.count, run.figures(), began)
            self._steps()
            run.seconds = time.perf_counter() - began
            if self.file is not None:
                checkpoint.save(self.file, self, 0.0, 0)
                saved = time.perf_counter()
            yield from self._noted()
            yield told

    def _do(self, what: str) -> None:
        """Say what is done now, and of the samples that it evaluates how many are done."""
        if (doing := self.doing) is not None:
            doing(what, 0, 0)
            self.run.scorer.progress = lambda done, total: doing(what, done, total)

    def _steps(self) -> None:
        """Whatever is evaluated from here on says so itself."""
        self.run.scorer.progress = None

    def _noted(self) -> Iterator[Note]:
        """Decisions that were not told yet."""
        told, self._told = self._told, len(self.run.notes)
        yield from self.run.notes[told:]

    def _stops(self) -> bool:
        """Whether the score has not become better for as many epochs as patience lasts."""
        patience = self.settings.patience
        settled = [one for one in self.curve if one.settled]
        last = max((one.epoch for one in settled if one.best), default=0)
        return patience is not None and bool(settled) and self.run.epoch - 1 - max(last, settled[0].epoch) >= patience

    def _judged(self, loss: float | None, figures: dict[str, Figure], began: float) -> Epoch:
        run = self.run
        settled = self.schedule.settled(run)
        best = settled and run.scorer.better(figures, run.best)
        if best:
            run.best, run.best_state = figures, run.state()
        run.hold.round()
        told = Epoch(
            run.epoch, self.settings.epochs, run.step, loss, figures, next(iter(figures)), run.sparsity, self._rate(),
            time.perf_counter() - began, self._left(), settled, best,
        )  # fmt: skip
        self.curve.append(told)
        return told

    def _last(self) -> None:
        """The state at the end: after a cancel within an epoch, what was learned since counts, too, unless from fewer samples than
        it takes to judge it: somebody waits."""
        run = self.run
        since = run.step - (self.curve[-1].step if self.curve else 0)
        if run.best_state is not None and since * self.settings.batch < run.scorer.data.total:
            return
        figures = run.figures()
        if run.best_state is None or (self.schedule.settled(run) and run.scorer.better(figures, run.best)):
            run.best, run.best_state = figures, run.state()

    def _left(self) -> float:
        done = self.run.step
        return self.run.seconds / done * (self.run.steps - done) if done else 0.0

    def _rate(self) -> float:
        return self.settings.rate * self.settings.factor(*self.schedule.clock(self.run))

    def _batches(self, count: int) -> list[list[int]]:
        """The samples of each step of this epoch, in an order that the seed and the epoch alone decide."""
        chosen = torch.arange(count)
        if count < len(self.data):
            chosen = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(self.settings.seed))[:count]
        order = torch.randperm(
            count, generator=torch.Generator().manual_seed(mixed(self.settings.seed, self.run.epoch, 1))
        )
        batches = [chosen[one].tolist() for one in order.split(self.settings.batch)]
        if len(batches) > 1 and len(batches[-1]) == 1:  # BatchNorm cannot normalize over one sample
            alone = batches.pop()
            batches[-1] += alone
        return batches

    def subject(self, name: str | None = None) -> Subject:
        """The best model so far as a new subject, with its parent and history; training is over then."""
        from .derive import result

        if self._taken is None:
            self._taken = result(self, name)
        return self._taken
