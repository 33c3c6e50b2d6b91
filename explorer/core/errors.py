"""One exception family. A message names what was wrong, where, and what would be accepted."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ExplorerError(Exception):
    """Base of every error that this package raises on purpose."""


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


class Cancelled(ExplorerError):
    """The caller's ``cancel()`` said so between two chunks of work."""


def near(wrong: str, accepted: Iterable[str], limit: int = 3) -> str:
    """The clause of a message that proposes what may have been meant.

    >>> near("conv1.wieght", ["conv1.weight", "fc.weight"])
    'did you mean conv1.weight?'
    """
    options = list(accepted)
    close = get_close_matches(wrong, options, n=limit, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(options[:12]) + (f", ... ({len(options)} in all)" if len(options) > 12 else "")
    return f"accepted: {shown or 'none'}"
