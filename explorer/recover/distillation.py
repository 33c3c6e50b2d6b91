"""Learning from a teacher: its outputs, its softened answers, its hidden features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.checks import shown
from ..core.errors import ExplorerError, SettingsError, TaskError, near
from ..core.message import say
from ..models.device import place
from ..models.subject import Subject
from ..models.task import copied, to_device
from ..models.trial import tensors
from .checks import between
from .features import matched
from .objective import Objective, refuse

if TYPE_CHECKING:
    from .run import Run

MATCHES = ("logits", "squared")
LOGITS = ("classification", "language_model", "agreement")  # kinds of task whose outputs are logits
ALPHA, TEMPERATURE = 0.7, 3.0
IGNORED = -100  # targets of a language model that are no tokens


def soft_loss(student: Tensor, teacher: Tensor, temperature: float, counted: Tensor | None = None) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)) in nats, the mean over all but the last dim (samples, steps
    of a sequence).

    counted: bool of the shape without the last dim, False where a step does not count. T² keeps the gradient's size
    whatever T is.
    Source: Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.
    """
    log_q = F.log_softmax(student.float() / temperature, -1)
    log_p = F.log_softmax(teacher.float() / temperature, -1)
    each = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1) * temperature**2
    if counted is None:
        return each.mean()
    return (each * counted).sum() / counted.sum().clamp(min=1)


def squared_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean of (student - teacher)². Source, for logits: Ba, Caruana 2014, arXiv 1312.6184, eq. 2."""
    return F.mse_loss(student.float(), teacher.float())


class Distillation(Objective):
    """(1 - α) · the task's loss + α · distance of the outputs + β · distance of hidden features.

    teacher: a subject with the same outputs; it is not trained. alpha: α, None for 0.7, or 1 where the task has no
    loss; with 1 no label is looked at. match: "logits" (:func:`soft_loss`, of the first output, its last dim being
    the classes) or "squared" (:func:`squared_loss`, summed over all outputs); None: "logits" for tasks whose
    outputs are logits. temperature: T. features: names of modules whose outputs (the first tensor) are matched by
    their squared difference (Romero et al. 2015, FitNets, arXiv 1412.6550, eq. 3), as a list, or {the student's:
    the teacher's}; of units that were removed from the student, those of the teacher are left out. beta: β, of
    their sum. Raises :class:`SettingsError`.
    """

    what = "distillation"

    def __init__(
        self,
        teacher: Subject,
        *,
        alpha: float | None = None,
        temperature: float = TEMPERATURE,
        match: str | None = None,
        features: Sequence[str] | Mapping[str, str] = (),
        beta: float = 1.0,
    ) -> None:
        if not isinstance(teacher, Subject):
            raise SettingsError(
                say(
                    "teacher is {type}; accepted: an explorer.Subject with the same outputs",
                    type=type(teacher).__name__,
                )
            )
        for name, value, low, high in (
            ("alpha", alpha, 0.0, 1.0),
            ("temperature", temperature, 1e-3, 1e3),
            ("beta", beta, 0.0, 1e9),
        ):
            if value is not None or name != "alpha":
                between(name, value, low, high)
        if match is not None and match not in MATCHES:
            raise SettingsError(say("match={value}; {hint}", value=shown(match), hint=near(str(match), MATCHES)))
        if isinstance(features, str):
            features = [features]
        self.teacher, self.alpha, self.temperature, self.match, self.beta = (
            teacher,
            alpha,
            float(temperature),
            match,
            float(beta),
        )
        if not isinstance(features, Iterable):
            raise SettingsError(
                say("features={value}; accepted: names of modules, or {{the student's: the teacher's}}", value=shown(features))
            )
        self.features = dict(features) if isinstance(features, Mapping) else {name: name for name in features}
        self._module: nn.Module | None = None

    def begin(self, run: Run) -> None:
        task = run.subject.task
        if self.alpha is None:
            self.alpha = ALPHA if task.loss is not None else 1.0
        if self.alpha < 1 and task.loss is None:
            raise TaskError(
                say(
                    "{subject}: the task has no loss; accepted: alpha=1, which learns from the teacher alone",
                    subject=run.subject.name,
                )
            )
        if self.match is None:
            self.match = "logits" if task.kind in LOGITS else "squared"
        self._module = self.teacher.copy()._apply(lambda tensor: place(tensor, run.device)).eval()
        for mine, theirs in self.features.items():
            for module, name, whose in (
                (run.module, mine, run.subject.name),
                (self._module, theirs, self.teacher.name),
            ):
                there = [one for one, _ in module.named_modules() if one]
                if name not in there:
                    raise SettingsError(
                        say(
                            "features: {name!r} names no module of {subject}; {hint}",
                            name=name,
                            subject=whose,
                            hint=near(name, there),
                        )
                    )
        inputs = to_device(task.batch("train", [0, min(1, len(task.dataset("train")) - 1)])[0], run.device)
        training = {name: one.training for name, one in run.module.named_modules()}
        run.module.eval()
        try:
            with torch.no_grad():
                self._distance(run, inputs, None)  # what does not fit is said before anything is trained
        except ExplorerError:
            raise
        except Exception as error:
            raise refuse(error, run.subject.name, [0]) from error
        for name, one in run.module.named_modules():
            one.training = training[name]

    def __call__(self, run: Run, inputs: Any, targets: Any, indices: list[int]) -> Tensor:
        outputs, distance = self._distance(run, inputs, targets)
        assert self.alpha is not None
        if self.alpha < 1:
            assert run.subject.task.loss is not None
            distance = distance + (1 - self.alpha) * run.subject.task.loss(outputs, targets)
        return distance

    def _distance(self, run: Run, inputs: Any, targets: Any) -> tuple[Any, Tensor]:
        """(the student's outputs, α · distance of the outputs + β · distance of the features)."""
        assert self._module is not None and self.alpha is not None
        with torch.no_grad(), watched(self._module, self.features.values()) as known:
            wanted = self.teacher.task.forward(self._module, copied(inputs))  # which it may write to
        with watched(run.module, self.features) as mine:
            outputs = run.forward(inputs)
        pairs = self._pairs(outputs, wanted)
        if self.match == "logits":
            far = soft_loss(*pairs[0], self.temperature, counted(run, pairs[0][0], targets))
        else:
            far = torch.stack([squared_loss(*pair) for pair in pairs]).sum()
        total = self.alpha * far
        for name, other in self.features.items():
            if name not in mine or other not in known:
                raise SettingsError(
                    say("features: {name!r} is not called in a forward pass; accepted: another module", name=name)
                )
            total = total + self.beta * squared_loss(mine[name], matched(run, name, mine[name], known[other]))
        return outputs, total

    def _pairs(self, outputs: Any, wanted: Any) -> list[tuple[Tensor, Tensor]]:
        """(student's, teacher's) floating outputs, of equal shapes."""
        found, theirs = ([one for one in tensors(some) if one.is_floating_point()] for some in (outputs, wanted))
        if not found or [one.shape for one in found] != [one.shape for one in theirs]:
            shapes = [", ".join(str(tuple(one.shape)) for one in some) or say("none") for some in (found, theirs)]
            raise TaskError(
                say(
                    "the student's outputs are {student} and those of the teacher {teacher!r} {theirs}; accepted: equal shapes",
                    student=shapes[0], teacher=self.teacher.name, theirs=shapes[1],
                )
            )  # fmt: skip
        return list(zip(found, theirs, strict=True))

    def to_dict(self) -> dict[str, Any]:
        return {
            "teacher": self.teacher.name, "teacher_digest": self.teacher.digest, "alpha": self.alpha, "temperature": self.temperature,
            "match": self.match, "features": self.features, "beta": self.beta,
        }  # fmt: skip


def counted(run: Run, outputs: Tensor, targets: Any) -> Tensor | None:
    """The steps of a sequence that count: of a language model those with a token to tell; None for all."""
    if (
        run.subject.task.kind != "language_model"
        or not isinstance(targets, Tensor)
        or targets.shape != outputs.shape[:-1]
    ):
        return None
    return targets != IGNORED


@contextmanager
def watched(module: nn.Module, names: Any) -> Iterator[dict[str, Tensor]]:
    """{module FQN: the first floating tensor that it returns} of a forward pass within the block."""
    seen: dict[str, Tensor] = {}

    def see(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen[name] = next(one for one in tensors(output) if one.is_floating_point())

        return hook

    handles = [module.get_submodule(name).register_forward_hook(see(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
