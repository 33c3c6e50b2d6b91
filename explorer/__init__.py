"""See what pruning and quantization do to a neural network: real masks, real removal, real scores.

>>> import explorer
>>> subject = explorer.load("fashion-lenet5")
>>> recipe = explorer.Recipe().prune("fc1.weight", sparsity=0.8)
>>> report = explorer.evaluate(subject, recipe)

Public names are resolved when first used: importing this package imports neither torch nor pandas.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# read by torch when it makes its first tensor: large ones in huge pages, since where memory is virtual a fault a small page takes longer than the work
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_PUBLIC = {
    "samples": "explorer.models.samples",
    "load": "explorer.files.load",
    "open_app": "explorer.ui.server",
    "Subject": "explorer.models.subject",
    "Task": "explorer.models.task",
    "Recipe": "explorer.core.recipe",
    "Report": "explorer.core.report",
    "Layer": "explorer.core.layers",
    "Group": "explorer.core.layers",
    "resolve": "explorer.compress.resolve",
    "Plan": "explorer.compress.plan",
    "stream": "explorer.evaluate.evaluator",
    "sensitivity": "explorer.studies.sensitivity",
    "suggest": "explorer.studies.suggest",
    "Suggestion": "explorer.studies.suggest",
    "prune_by_error": "explorer.studies.error_based",
    "ErrorPruning": "explorer.studies.error_based",
    "importance": "explorer.analysis.importance",
    "criteria": "explorer.analysis.criteria",
    "criterion": "explorer.analysis.custom",
    "gate_importance": "explorer.analysis.gates",
    "quantizers": "explorer.compress.quantizers",
    "observers": "explorer.compress.observers",
    "quantization_error": "explorer.compress.errors",
    "exporters": "explorer.export.exporters",
    "explain": "explorer.measure.explain",
    "Explanation": "explorer.core.explanation",
    "joint_map": "explorer.studies.joint_map",
    "joint_cells": "explorer.studies.joint_map",
    "file_statistics": "explorer.files.statistics",
    "file_thresholds": "explorer.files.statistics",
    "compare_files": "explorer.files.differences",
    "Noise": "explorer.files.noise",
    "noise_task": "explorer.files.noise",
    "load_exported": "explorer.export.files",
    "load_packed": "explorer.export.files",
    "distill": "explorer.recover.distill",
    "Distillation": "explorer.recover.distillation",
    "finetune": "explorer.recover.finetune",
    "recalibrate": "explorer.recover.recalibrate",
    "hold": "explorer.recover.hold",
    "schedules": "explorer.recover.schedules",
    "Settings": "explorer.recover.settings",
    "ShiftFlip": "explorer.recover.augment",
    "Training": "explorer.recover.loop",
    "ExplorerError": "explorer.core.errors",
    "RecipeError": "explorer.core.errors",
    "LoadError": "explorer.core.errors",
    "UnsupportedError": "explorer.core.errors",
    "TaskError": "explorer.core.errors",
    "EvaluationError": "explorer.core.errors",
    "VerificationError": "explorer.core.errors",
    "ExportError": "explorer.core.errors",
    "Cancelled": "explorer.core.errors",
    "SettingsError": "explorer.core.errors",
    "TrainingError": "explorer.core.errors",
}
_CALLABLE = ("compress", "evaluate", "export")  # packages that are functions too
__all__ = [
    "Cancelled",
    "Distillation",
    "ErrorPruning",
    "EvaluationError",
    "Explanation",
    "ExplorerError",
    "ExportError",
    "Group",
    "Layer",
    "LoadError",
    "Noise",
    "Plan",
    "Recipe",
    "RecipeError",
    "Report",
    "Settings",
    "SettingsError",
    "ShiftFlip",
    "Subject",
    "Suggestion",
    "Task",
    "TaskError",
    "Training",
    "TrainingError",
    "UnsupportedError",
    "VerificationError",
    "compare_files",
    "compress",
    "criteria",
    "criterion",
    "distill",
    "evaluate",
    "explain",
    "export",
    "exporters",
    "file_statistics",
    "file_thresholds",
    "finetune",
    "gate_importance",
    "hold",
    "importance",
    "joint_cells",
    "joint_map",
    "load",
    "load_exported",
    "load_packed",
    "noise_task",
    "observers",
    "open_app",
    "prune_by_error",
    "quantization_error",
    "quantizers",
    "recalibrate",
    "resolve",
    "samples",
    "schedules",
    "sensitivity",
    "stream",
    "suggest",
]


def __getattr__(name: str) -> Any:
    if name in _CALLABLE:
        return importlib.import_module(f"explorer.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'explorer' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from .analysis.criteria import criteria
    from .analysis.custom import criterion
    from .analysis.gates import gate_importance
    from .analysis.importance import importance
    from .compress.apply import compress
    from .compress.errors import quantization_error
    from .compress.observers import observers
    from .compress.plan import Plan
    from .compress.quantizers import quantizers
    from .compress.resolve import resolve
    from .core.errors import (
        Cancelled,
        EvaluationError,
        ExplorerError,
        ExportError,
        LoadError,
        RecipeError,
        SettingsError,
        TaskError,
        TrainingError,
        UnsupportedError,
        VerificationError,
    )
    from .core.explanation import Explanation
    from .core.layers import Group, Layer
    from .core.recipe import Recipe
    from .core.report import Report
    from .evaluate.evaluator import evaluate, stream
    from .export.bundle import export
    from .export.exporters import exporters
    from .export.files import load_exported, load_packed
    from .files.differences import compare_files
    from .files.load import load
    from .files.noise import Noise, noise_task
    from .files.statistics import file_statistics, file_thresholds
    from .measure.explain import explain
    from .models.samples import samples
    from .models.subject import Subject
    from .models.task import Task
    from .recover.augment import ShiftFlip
    from .recover.distill import distill
    from .recover.distillation import Distillation
    from .recover.finetune import finetune
    from .recover.hold import hold
    from .recover.loop import Training
    from .recover.recalibrate import recalibrate
    from .recover.schedules import schedules
    from .recover.settings import Settings
    from .studies.error_based import ErrorPruning, prune_by_error
    from .studies.joint_map import joint_cells, joint_map
    from .studies.sensitivity import sensitivity
    from .studies.suggest import Suggestion, suggest
    from .ui.server import open_app
