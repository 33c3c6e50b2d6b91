"""What the command line writes: tables, bars and errors of one line, whatever the terminal is."""

from __future__ import annotations

import functools
import io
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from .core.errors import ExplorerError

TEXT = frozenset("name model task score layer kind shape group tensor tensors file metric block state layers".split())


def clearly(command: Callable[..., None]) -> Callable[..., None]:
    """One line on stderr and exit code 2 instead of a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        utf8()
        try:
            command(*args, **kwargs)
        except (ExplorerError, OSError) as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from None

    return run


def utf8() -> None:
    """Names may be Chinese; a pipe or a Windows console may not be UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(encoding="utf-8")


def show(one: Table) -> None:
    """Print a table; a pipe has no width, so tables are not cut there."""
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(one)


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """A table; columns of numbers stand to the right."""
    made = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold", justify="left" if column in TEXT else "right")
    for row in rows:
        made.add_row(*map(str, row))
    return made


def number(value: float | None) -> str:
    """Four decimals; "undefined" for none."""
    if value is None or not math.isfinite(value):
        return "undefined"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"


class bar:
    """A bar on stderr while a terminal is there to see it; ``with bar("...") as progress``."""

    def __init__(self, label: str) -> None:
        from rich.progress import Progress

        console = Console(file=sys.stderr, highlight=False)
        self._seen = console.is_terminal
        self._bar = Progress(console=console, transient=True, disable=not self._seen)
        self._task = self._bar.add_task(label)

    def __enter__(self) -> Callable[[int, int], None]:
        if self._seen:
            self._bar.start()
        return lambda done, total: self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._seen:  # older ones of rich write an empty line where nobody sees a bar
            self._bar.stop()
