"""Checkpoints of every format, with what is awkward in them, and small pieces to read them in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

DTYPES = {
    "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz, "I8": torch.int8,
    "U8": torch.uint8, "I16": torch.int16,
}  # fmt: skip


def weights(dtype: str, shape: tuple[int, ...], seed: int = 0, odd: bool = True) -> Tensor:
    """Normal values with zeros of both signs, ties, tiny ones and, of floats and where ``odd``, infinities and NaN."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if dtype in ("I8", "U8", "I16"):
        return (made * 40).round().clamp(0 if dtype == "U8" else -128, 127).to(DTYPES[dtype])
    flat = made.reshape(-1)
    flat[:8] = torch.tensor([0.0, -0.0, 0.5, -0.5, 1e-42, -1e-40, 6e-8, 0.5])[: len(flat)]
    flat[8:12] = 0.0
    found = made.to(DTYPES[dtype])
    if odd and not dtype.startswith("F8"):
        found.reshape(-1)[12:15] = torch.tensor([torch.inf, -torch.inf, torch.nan]).to(DTYPES[dtype])
    return found


def sharded(folder: Path, parts: list[dict[str, Tensor]], **change: str) -> Path:
    """A checkpoint in shards with its index; change: {tensor with _ for a point: the shard that the index states}."""
    folder.mkdir(exist_ok=True)
    places: dict[str, str] = {}
    for i, part in enumerate(parts):
        save_file(part, folder / f"model-{i}.safetensors")
        places |= dict.fromkeys(part, f"model-{i}.safetensors")
    places |= {name.replace("_", "."): place for name, place in change.items()}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    return folder


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so small that every tensor is read in many."""
    from explorer.files import differences, sources

    monkeypatch.setattr(sources, "PIECE", 4096)
    monkeypatch.setattr(sources, "BLOCK", 512)
    monkeypatch.setattr(differences, "STEP", 700)
