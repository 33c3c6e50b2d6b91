"""What stands beside the weights so that another library opens them: a Hugging Face model's config and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..compress.plan import Plan
from ..core.message import say
from ..models.subject import Subject
from .described import plain_tensors

CONFIG = "config.json"


def files_of(subject: Subject, plan: Plan) -> tuple[Mapping[str, bytes], tuple[str, ...]]:
    """({name: content}, notes): empty for a model that did not come with a config, or that its config no longer describes."""
    files: Mapping[str, bytes] = subject.card.get("files") or {}
    if CONFIG not in files:
        return {}, ()
    if plan.dropped:
        return {}, (
            say(
                "{name} is left out: it cannot say which units are gone, so transformers could not load the weights",
                name=CONFIG,
            ),
        )
    if plan.inputs:
        return files, (say("loaded by transformers, the model does not round activations as the recipe does"),)
    return files, ()


def write(files: Mapping[str, bytes], folder: Path) -> tuple[str, ...]:
    """Write them; their names."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return tuple(files)


def library_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every tensor as the library stores it: layers that were Conv1D there are turned back."""
    turned = {f"{name}.weight" for name, child in module.named_modules() if getattr(child, "was_conv1d", False)}
    stored = module.state_dict()  # without the tables that it computes
    return {
        name: t.t().contiguous() if name in turned else t for name, t in plain_tensors(module).items() if name in stored
    }
