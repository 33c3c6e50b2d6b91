"""One exception family. A message names what was wrong, where, and what would be accepted."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from .message import Message, joined, say


class ExplorerError(Exception):
    """Base of every error that this package raises on purpose."""

    @property
    def message(self) -> str:
        """What was said: a Message, to be nested into another one."""
        return self.args[0] if self.args and isinstance(self.args[0], Message) else str(self)


class RecipeError(ExplorerError, ValueError):
    """A recipe that cannot mean anything, or nothing for this subject."""


class LoadError(ExplorerError):
    """A model, recipe or export that cannot be loaded."""


class UnsupportedError(ExplorerError):
    """A request that cannot be carried out exactly; the subject is left as it was."""


class TaskError(ExplorerError, ValueError):
    """A task (data, loss, score) that cannot be evaluated."""


class EvaluationError(ExplorerError, RuntimeError):
    """A forward pass that failed or returned something unusable."""


class VerificationError(ExplorerError, RuntimeError):
    """An artefact whose outputs differ from what they should equal. It is never handed out."""


class ExportError(ExplorerError, RuntimeError):
    """An artefact that could not be written."""


class SettingsError(ExplorerError, ValueError):
    """Settings of a training that cannot mean anything, or nothing for this model and task."""


class TrainingError(ExplorerError, RuntimeError):
    """A training that cannot go on: a loss that is no number, a batch that does not fit."""


class Cancelled(ExplorerError):
    """The caller's ``cancel()`` said so between two chunks of work."""


def near(wrong: object, accepted: Iterable[str], limit: int = 3) -> Message:
    """The clause of a message that proposes what may have been meant.

    >>> near("conv1.wieght", ["conv1.weight", "fc.weight"])
    'did you mean conv1.weight?'
    """
    options = list(accepted)
    close = get_close_matches(str(wrong), options, n=limit, cutoff=0.5)
    if close:
        return say("did you mean {names}?", names=joined(close, say(" or ")))
    if len(options) > 12:
        return say("accepted: {names}, ... ({count} in all)", names=", ".join(options[:12]), count=len(options))
    return say("accepted: {names}", names=", ".join(options) or say("none"))


def failed(where: Message, error: BaseException, limit: int | None = None) -> EvaluationError:
    """What a forward of the user's own raised. where: the model, and what it was run on."""
    return EvaluationError(say("{where}; accepted: inputs that the model takes ({cause})", where=where, cause=cause(error, limit)))


def cause(error: BaseException, limit: int | None = None) -> str:
    """What an exception says: of this package its message, of another one its type and (the start of) its text."""
    if isinstance(error, ExplorerError):
        return error.message
    return f"{type(error).__name__}: {str(error)[:limit]}"
