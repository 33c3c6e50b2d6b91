"""What stands beside the weights so that another library opens them: a Hugging Face model's config and tokenizer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..compress.plan import Plan
from ..core.message import Message, say
from ..models.subject import Subject
from ..models.task import to_device
from .described import plain_tensors

CONFIG = "config.json"


def files_of(subject: Subject, plan: Plan, module: nn.Module) -> tuple[Mapping[str, bytes], tuple[Message, ...]]:
    """({name: content}, notes): empty for a model that did not come with a config, or of which no config can be written.

    Where units are gone, the config's numbers say so if they can, and the model that the library builds of it answers as ``module`` does.
    """
    files: Mapping[str, bytes] = subject.card.get("files") or {}
    if CONFIG not in files:
        return {}, ()
    notes: tuple[Message, ...] = ()
    if plan.dropped or subject.parent is not None:
        shapes = tuple(tuple(p.shape) for p in module.parameters())
        content = subject.memo.get(("config", subject.version, shapes), lambda: _config(subject, module))
        if content is None:
            return {}, (
                say(
                    "{name} is left out: it cannot say which units are gone, so transformers could not load the weights",
                    name=CONFIG,
                ),
            )
        files = {**files, CONFIG: content}
        notes = (
            (say("{name} says how many units are left, so transformers loads the smaller model", name=CONFIG),)
            if plan.dropped
            else ()
        )
    if plan.inputs:
        notes += (say("loaded by transformers, the model does not round activations as the recipe does"),)
    return files, notes


def kept(subject: Subject, module: nn.Module) -> bool:
    """Whether a config stands beside the weights of ``module``."""
    whole = [p.shape for p in module.parameters()] == [
        p.shape for p in subject.module.parameters()
    ] and subject.parent is None
    shapes = tuple(tuple(p.shape) for p in module.parameters())
    return CONFIG in (subject.card.get("files") or {}) and (
        whole or subject.memo.peek(("config", subject.version, shapes)) is not None
    )


def _config(subject: Subject, module: nn.Module) -> bytes | None:
    """config.json for the module as it is now, by what the reader of its files left on the card."""
    writer = subject.card.get("config")
    if writer is None:
        return None
    plain = copy.deepcopy(module).cpu()
    inputs = to_device(subject.task.example(2), "cpu")
    found: bytes | None = writer(library_tensors(plain), plain, lambda one: subject.task.forward(one, inputs))
    return found


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
