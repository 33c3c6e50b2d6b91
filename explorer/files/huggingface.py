"""A Hugging Face model (config.json, weights, tokenizer) in a folder or a zip: opened offline, nothing of it is executed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from ..core.errors import LoadError, UnsupportedError, cause
from ..core.message import Message, say
from .folder import Folder, folder_of
from .header import parse_header, read_header
from .hf_model import build, installed
from .limits import Limits, parse_json
from .pickles import read_checkpoint
from .refused import refusal
from .state import state_of
from .tokens import FILES, LONGEST, Reader, tokenizer_of

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # each whole, or in shards with an index
KEPT = (CONFIG, "generation_config.json", *FILES)


@dataclass(frozen=True, eq=False)
class Found:
    """module: None where only the weights can be looked at; then ``notes`` begins with the reason. tensors: by the file's names.
    reader: how texts become inputs. files: what has to stand beside the weights in a file of the same kind."""

    module: nn.Module | None
    tensors: Mapping[str, Tensor]
    reader: Reader | None
    notes: tuple[Message, ...]
    files: Mapping[str, bytes]


def read_huggingface(path: Path, limits: Limits) -> Found | None:
    """What is in the folder or zip; None where no config with a model_type lies beside weights. Raises :class:`LoadError`."""
    with folder_of(path, limits, CONFIG) as folder:
        if folder is None or not any(name in folder.names or _index(name) in folder.names for name in WEIGHTS):
            return None
        config = parse_json(folder.read(CONFIG, limits.header), folder.where(CONFIG), limits)
        if not isinstance(config, dict) or "model_type" not in config:
            return None
        _gate(folder, config)
        tensors = _weights(folder)
        files = {name: folder.read(name, limits.header) for name in KEPT if name in folder.names}
        try:
            built = build(config, tensors, path)
        except UnsupportedError as error:
            return Found(None, tensors, None, (say("{reason}", reason=error.message),), files)
        tokenizer = tokenizer_of(folder, config["model_type"])
    notes = built.notes
    if tokenizer is None:
        notes += (
            say(
                "no tokenizer.json in it: texts cannot be read, token indices can. AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes one"
            ),
        )
    return Found(built.module, tensors, _reader(built.head, built.config, tokenizer), notes, files)


def _gate(folder: Folder, config: Mapping[str, Any]) -> None:
    waiting: list[Any] = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "auto_map" in one:
                raise refusal(
                    folder.path,
                    "huggingface",
                    say("its config names code of its own (auto_map), which is never run here; refused"),
                )
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _index(name: str) -> str:
    return f"{name}.index.json"


def _weights(folder: Folder) -> dict[str, Tensor]:
    """Every tensor: of safetensors where there are any, else of a checkpoint of torch.save, read by its restricted unpickler."""
    for name in WEIGHTS:
        if _index(name) in folder.names or name in folder.names:
            files = _shards(folder, name) if _index(name) in folder.names else [name]
            found: dict[str, Tensor] = {}
            for file in files:
                for key, tensor in _tensors(folder, file):
                    if key in found:
                        raise LoadError(say("{path}: {name} is in two shards", path=folder.path, name=key[:80]))
                    found[key] = tensor
            return found
    raise AssertionError("callers have seen one of them")


def _shards(folder: Folder, name: str) -> list[str]:
    where = _index(name)
    rows = parse_json(folder.read(where, folder.limits.header), folder.where(where), folder.limits)
    places = rows.get("weight_map") if isinstance(rows, dict) else None
    names = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
    if not names or len(names) > 10_000:
        raise LoadError(say("{path}: no weight_map with the names of shards in it", path=folder.where(where)))
    for one in names:
        if one not in folder.names or not one.endswith(Path(name).suffix):
            raise LoadError(
                say(
                    "{path}: the shard {name!r}; accepted: a {suffix} file beside the index",
                    path=folder.where(where),
                    name=one[:80],
                    suffix=Path(name).suffix,
                )
            )
    return names


def _tensors(folder: Folder, name: str) -> Iterator[tuple[str, Tensor]]:
    file, most = folder.file(name), folder.limits.file
    if name.endswith(".bin"):
        data = None if file is not None else folder.read(name, most)
        loaded = read_checkpoint(file or Path(folder.where(name)), folder.limits, data)
        state = state_of(loaded, folder.where(name))
        yield from (dict(state.tensors) | {tied: state.tensors[kept] for tied, kept in state.tied.items()}).items()
        return
    try:
        if file is not None:
            read_header(file, folder.limits)
            yield from safetensors.torch.load_file(file).items()
            return
        data = folder.read(name, most)
        parse_header(io.BytesIO(data), len(data), folder.where(name), folder.limits)
        yield from safetensors.torch.load(data).items()
    except (safetensors.SafetensorError, ValueError, KeyError, OSError, RuntimeError) as error:
        raise LoadError(
            say("{path}: cannot be read as safetensors ({cause})", path=folder.where(name), cause=cause(error, 160))
        ) from None


def _reader(head: str, config: Any, tokenizer: Any) -> Reader:
    names = getattr(config, "id2label", None) or {}
    classes = tuple(str(names[i]) for i in sorted(names)) if head in ("classification", "tokens") else ()
    problem = getattr(config, "problem_type", None)
    if head == "classification" and (problem == "regression" or problem is None and len(classes) == 1):
        head, classes = "regression", ()
    if head in ("masked", "encoder") or head == "classification" and problem == "multi_label_classification":
        head, classes = "agreement", ()
    pad = next((value for value in (config.pad_token_id, config.eos_token_id) if type(value) is int and value >= 0), 0)
    config.pad_token_id = pad  # by which a classifier on a decoder finds the end of a text
    places = getattr(config, "max_position_embeddings", None) or LONGEST
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        places -= pad + 1  # where their positions begin
    return Reader(tokenizer, pad, max(1, min(places, LONGEST)), head, classes)


def config_text(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The config that came with a model."""
    return json.loads(files[CONFIG])  # type: ignore[no-any-return]


__all__ = ["CONFIG", "Found", "config_text", "installed", "read_huggingface"]
