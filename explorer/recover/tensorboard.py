"""A training's curves as TensorBoard event files, written by TensorBoard's own writer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import SettingsError
from ..core.message import say
from ..core.training import Epoch, Event, Note, Step


def available() -> bool:
    """Whether the optional package is there."""
    return importlib.util.find_spec("tensorboard") is not None


def needed() -> None:
    """Raises :class:`SettingsError` without the package."""
    if not available():
        raise SettingsError(say("event files need TensorBoard's writer; accepted: pip install tensorboard"))


@contextmanager
def writer(folder: Path | None) -> Iterator[Callable[[Event], None]]:
    """A function to tell events to, which writes them into ``folder``; None: it writes nothing. Raises :class:`SettingsError` without
    the package."""
    if folder is None:
        yield lambda event: None
        return
    needed()
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as out:  # type: ignore[no-untyped-call]
        yield lambda event: _write(out, event)


def _write(out: object, event: Event) -> None:
    add = out.add_scalar  # type: ignore[attr-defined]
    if isinstance(event, Step):
        add("loss/step", event.loss, event.step)
        add("learning rate", event.lr, event.step)
        add("sparsity", event.sparsity, event.step)
    elif isinstance(event, Epoch):
        if event.loss is not None:
            add("loss/train", event.loss, event.step)
        for name, figure in event.figures.items():
            add(f"validation/{name}", figure.value, event.step)
    elif isinstance(event, Note):
        out.add_text("decisions", str(event.text), event.step)  # type: ignore[attr-defined]
