"""A config for a model of the same family with fewer units, where its numbers can say exactly that."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..models.trial import TOLERANCE, difference
from .hf_model import build, skeleton

WIDTHS = (
    "intermediate_size",
    "ffn_dim",
    "hidden_dim",
    "n_inner",
    "hidden_size",
)  # numbers that stand for units of all layers
MOST = 64  # configs that are tried
Change = dict[str, int]


def fitting_config(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], module: nn.Module, run: Callable[[nn.Module], Any]
) -> dict[str, Any] | None:
    """``config`` with the numbers under which the library builds exactly ``tensors`` and the model answers as ``module`` does; None where
    there are none: layers that end with different widths, heads of a family whose config derives their size from their number.

    tensors: by the library's names. run: calls a module on real inputs. Candidates are built without memory first; of those whose every
    shape is right the first that gives the same outputs (1e-5) holds.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    before = skeleton(config)
    for change in itertools.islice(_changes(before, wanted), MOST):
        try:
            found = before if not change else skeleton({**config, **change})
            if any(found.shapes.get(name) != shape for name, shape in wanted.items()):
                continue
            made = build({**config, **change}, tensors, "config.json").module
            with torch.no_grad():
                if difference(run(module), run(made)) <= TOLERANCE:
                    return {**config, **change}
        except Exception:  # the library refuses numbers that do not go together in many ways
            continue
    return None


def _changes(before: Any, wanted: Mapping[str, tuple[int, ...]]) -> Iterator[Change]:
    """No change, then every combination of new numbers that some tensor has."""
    sizes = {
        new
        for name, shape in wanted.items()
        for old, new in zip(before.shapes.get(name, shape), shape, strict=False)
        if old != new
    }
    widths: list[list[Change]] = [
        [{}, *({name: n} for n in sorted(sizes))] for name in WIDTHS if hasattr(before.config, name)
    ]
    for chosen in itertools.product(*widths, _heads(before.config, wanted)):
        yield {name: value for one in chosen for name, value in one.items()}


def _heads(config: Any, wanted: Mapping[str, tuple[int, ...]]) -> list[Change]:
    """Numbers of heads, of families whose config states the size of a head."""
    size = getattr(config, "head_dim", None) or 0
    if not hasattr(config, "head_dim") or not hasattr(config, "num_key_value_heads"):
        return [{}]
    size = size or config.hidden_size // config.num_attention_heads
    rows = {
        end: {shape[0] for name, shape in wanted.items() if name.endswith(f"{end}.weight")}
        for end in ("q_proj", "k_proj")
    }
    pairs = itertools.product(sorted(rows["q_proj"]), sorted(rows["k_proj"]))
    found = [{"num_attention_heads": q // size, "num_key_value_heads": k // size, "head_dim": size} for q, k in pairs]
    return [{}, *found]


def config_writer(config: Mapping[str, Any]) -> Callable[..., bytes | None]:
    """What a subject's card offers to those who write its files: (tensors, module, run) -> config.json, or None."""

    def write(tensors: Mapping[str, Tensor], module: nn.Module, run: Callable[[nn.Module], Any]) -> bytes | None:
        found = fitting_config(config, tensors, module, run)
        return None if found is None else json.dumps(found, ensure_ascii=False, indent=2).encode()

    return write
