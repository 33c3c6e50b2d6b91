"""A config and its tensors -> one of the transformers library's own models, as code of that library alone."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import LoadError, UnsupportedError, cause
from ..core.message import Message, say

# Text models whose config alone builds them, and which are tried here; anything else is opened as weights.
FAMILIES = frozenset(
    "albert bert camembert distilbert electra gpt2 gpt_neo gpt_neox llama mistral modernbert mpnet opt phi qwen2 qwen3 roberta "
    "smollm3 xlm-roberta".split()
)
HEADS = {
    "classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "tokens": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "language_model": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "masked": "MODEL_FOR_MASKED_LM_MAPPING_NAMES", "encoder": "MODEL_MAPPING_NAMES",
}  # fmt: skip
NEEDS = "pip install transformers"
SPARE = 1 << 24  # entries that a model may hold beyond those of its file: tables that it computes
SMALL = 100_000  # layers and labels that any config may name
_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class Built:
    """head: see HEADS. config: the library's, with its defaults."""

    module: nn.Module
    head: str
    config: Any
    notes: tuple[Message, ...] = ()


def installed() -> bool:
    """Whether the optional library is there."""
    return importlib.util.find_spec("transformers") is not None


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: object) -> Built:
    """The model in eval mode and float32. Raises :class:`UnsupportedError` where there are only weights to look at, with the
    reason, and :class:`LoadError` where config and weights contradict each other.

    The library never sees the folder: no file of it is searched for code, and nothing is asked of a network.
    """
    family = config.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise UnsupportedError(
            say(
                "{path}: model_type {family!r}; those that run: {families}",
                path=path,
                family=str(family)[:40],
                families=", ".join(sorted(FAMILIES)),
            )
        )
    if not installed():
        raise UnsupportedError(
            say("to run Hugging Face models, install the library that holds their code: {command}", command=NEEDS)
        )
    if config.get("quantization_config"):
        raise UnsupportedError(
            say("{path}: its weights are stored quantized (quantization_config); they can only be looked at", path=path)
        )
    with _offline():
        from transformers import CONFIG_MAPPING

        cls, head = _class(family, config, path)
        try:
            made = CONFIG_MAPPING[family].from_dict(_plain(config, len(tensors), path))
        except LoadError:
            raise
        except Exception as error:
            raise LoadError(
                say(
                    "{path}: config.json is not one of {family} ({cause})",
                    path=path,
                    family=family,
                    cause=cause(error, 200),
                )
            ) from None
        made.use_cache = made.output_attentions = made.output_hidden_states = False
        notes = []
        try:
            _measure(cls, made, tensors, path)
            module, info = cls.from_pretrained(
                None, config=made, state_dict=dict(tensors), output_loading_info=True, local_files_only=True, trust_remote_code=False,
                attn_implementation="eager", dtype=torch.float32, use_safetensors=True,
            )  # fmt: skip
        except LoadError:
            raise
        except Exception as error:  # the library fails in many ways on what does not fit
            raise LoadError(
                say("{path}: config.json and the weights do not fit ({cause})", path=path, cause=cause(error, 300))
            ) from None
    missing = sorted(info["missing_keys"])
    if missing:
        raise LoadError(
            say(
                "{path}: {name} needs {missing}, which the weights do not hold; set architectures in config.json to what was saved",
                path=path, name=cls.__name__, missing=", ".join(missing[:6]),
            )
        )  # fmt: skip
    if info["unexpected_keys"]:
        notes.append(
            say(
                "left aside, not of {name}: {names}",
                name=cls.__name__,
                names=", ".join(sorted(info["unexpected_keys"])[:6]),
            )
        )
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} - {torch.float32}
    if kinds:
        notes.append(
            say(
                "the file's {dtype} became float32, in which it is evaluated, counted and exported",
                dtype=", ".join(sorted(str(k).removeprefix("torch.") for k in kinds)),
            )
        )
    if linear(module):
        notes.append(say("its Conv1D layers are shown as linear ones: the same function, the weights transposed"))
    return Built(module.eval().requires_grad_(True), head, made, tuple(notes))


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """The library without a network, progress bars and advice, for one thread at a time; afterwards as it was."""
    import os

    with _lock:
        before = os.environ.get("HF_HUB_OFFLINE")
        os.environ["HF_HUB_OFFLINE"] = "1"
        try:
            import huggingface_hub.constants as hub
            from transformers.utils import logging
        finally:
            os.environ.pop("HF_HUB_OFFLINE") if before is None else os.environ.update(HF_HUB_OFFLINE=before)
        was = hub.HF_HUB_OFFLINE, logging.get_verbosity(), logging.is_progress_bar_enabled()
        hub.HF_HUB_OFFLINE = True
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        try:
            yield
        finally:
            hub.HF_HUB_OFFLINE = was[0]
            logging.set_verbosity(was[1])
            if was[2]:
                logging.enable_progress_bar()


def _class(family: str, config: Mapping[str, Any], path: object) -> tuple[Any, str]:
    """The library's class for the architecture that the config names, and its head."""
    import transformers
    from transformers.models.auto import modeling_auto

    known = {head: getattr(modeling_auto, table).get(family) for head, table in HEADS.items()}
    wanted = config.get("architectures") or [known["encoder"]]
    name = wanted[0] if isinstance(wanted, list) and isinstance(wanted[0], str) else ""
    for head, one in known.items():
        if name and name in (one if isinstance(one, (tuple, list)) else (one,)):
            return getattr(transformers, name), head
    accepted = ", ".join(one for one in known.values() if isinstance(one, str))
    raise UnsupportedError(
        say("{path}: architecture {name!r}; those that run: {accepted}", path=path, name=name[:60], accepted=accepted)
    )


def _plain(config: Any, tensors: int, path: object) -> Any:
    """The config without what chooses code (kernels, attention, dtypes), its counts within what the file can hold."""
    if isinstance(config, list):
        return [_plain(one, tensors, path) for one in config]
    if not isinstance(config, Mapping):
        if isinstance(config, int) and abs(config) >= 1 << 40:
            raise LoadError(
                say("{path}: config.json holds the number {value}; refused", path=path, value=str(config)[:40])
            )
        return config
    out = {}
    for name, value in config.items():
        if name.startswith("_") or name in (
            "attn_implementation",
            "experts_implementation",
            "dtype",
            "torch_dtype",
            "torchscript",
            "use_kernels",
        ):
            continue
        most = (
            tensors
            if "layer" in name and name.startswith(("n_", "num_"))
            else SMALL
            if "layer" in name or "label" in name
            else None
        )
        if most is not None and type(value) is int and value > most:
            raise LoadError(
                say(
                    "{path}: config.json says {name} {value}, for {tensors} tensors; refused",
                    path=path,
                    name=name[:60],
                    value=str(value)[:40],
                    tensors=tensors,
                )
            )
        out[name] = _plain(value, tensors, path)
    return out


@dataclass(frozen=True)
class Skeleton:
    """shapes: {name: shape} of every stored tensor. config: the library's, with its defaults."""

    shapes: Mapping[str, tuple[int, ...]]
    config: Any


def skeleton(config: Mapping[str, Any]) -> Skeleton:
    """What :func:`build` would make of a config that it has accepted, without memory."""
    with _offline():
        from transformers import CONFIG_MAPPING

        family = str(config.get("model_type"))
        cls, _ = _class(family, config, "config.json")
        made = CONFIG_MAPPING[family].from_dict(_plain(config, SMALL, "config.json"))
        with torch.device("meta"):
            module = cls._from_config(made, attn_implementation="eager")
    return Skeleton({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}, made)


def _measure(cls: Any, config: Any, tensors: Mapping[str, Tensor], path: object) -> None:
    """Built without memory first: no larger than what the file holds."""
    with torch.device("meta"):
        skeleton = cls._from_config(config, attn_implementation="eager")
    needed = sum(t.numel() for t in [*skeleton.parameters(), *skeleton.buffers()])
    held = sum(t.numel() for t in tensors.values())
    if needed > held + SPARE:
        raise LoadError(
            say(
                "{path}: config.json asks for {needed:,} weights, the file holds {held:,}; refused",
                path=path,
                needed=needed,
                held=held,
            )
        )


def linear(module: nn.Module) -> bool:
    """Put nn.Linear in the place of GPT-2's Conv1D, in place; whether there was any. Layers then have the kinds and the rows that
    everything else knows."""
    from transformers.pytorch_utils import Conv1D

    found = False
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv1D):
                made = nn.Linear(child.weight.shape[0], child.weight.shape[1], device="meta")
                made.weight = nn.Parameter(child.weight.detach().t().contiguous())
                made.bias = child.bias
                made.__dict__["was_conv1d"] = True  # so that it is written as it was
                setattr(parent, name, made)
                found = True
    return found
