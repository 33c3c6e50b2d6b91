"""File formats, one file each; the registry discovers the folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from ...compress.plan import Plan
from ...core.errors import ExportError
from ...core.message import say
from ...core.recipe import Recipe
from ...core.registry import Registry
from ...models.subject import Subject


@dataclass(frozen=True)
class Written:
    """files: names within the folder, the main one first. notes: what the reader of the bundle must know."""

    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Exporter(ABC):
    """Writes a compressed module as files and proves that they compute the same. The docstring is help on screen."""

    title: ClassVar[str]
    filename: ClassVar[str]  # of the main file
    tolerance: ClassVar[float]  # largest relative difference that verify may find
    simulated: ClassVar[bool] = False  # whether its answers only agree with the simulation, and are counted

    def meaning(self, subject: Subject, recipe: Recipe) -> Recipe:
        """The recipe that the file stands for; the same one, where the format adds nothing."""
        return recipe

    @abstractmethod
    def write(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> Written:
        """Write the files of ``module`` (the plan applied; eval mode, CPU). Raises :class:`ExportError`."""

    @abstractmethod
    def verify(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> float:
        """Load what was written, run it beside ``module`` on real inputs: max|a - b| / max(1, max|a|)."""

    def accepted(self, module: nn.Module) -> float:
        """How far the file may be from this module."""
        return self.tolerance

    @abstractmethod
    def loaded(self, folder: Path) -> nn.Module:
        """The written file as a module on the CPU, called as the original is.

        Raises :class:`ExplorerError` for a file of weights alone, which nothing can run.
        """

    @abstractmethod
    def usage(self, subject: Subject, module: nn.Module) -> str:
        """Python that loads the file, for the bundle's README; runs in the bundle's folder."""


def refuse_types(subject: Subject, module: nn.Module, file: str, refused: Callable[[torch.dtype], bool]) -> None:
    """Raises :class:`ExportError` for the first parameter of a refused type."""
    for name, one in module.named_parameters():
        if refused(one.dtype):
            raise ExportError(
                say(
                    "{subject}: {parameter} is {dtype}; accepted for {file}: float32, as of module.float()",
                    subject=subject.name, parameter=name, dtype=str(one.dtype).removeprefix("torch."), file=file,
                )
            )  # fmt: skip


registry: Registry[type[Exporter]] = Registry("exporter", __name__)


def exporters() -> tuple[str, ...]:
    """Names of the registered file formats."""
    return tuple(registry)
