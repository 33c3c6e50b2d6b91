"""Moby-Dick, character by character (Herman Melville, 1851; public domain, data/mobydick.NOTICE.txt).

The text is cut into blocks of 4,097 consecutive characters and whole blocks are dealt to the splits, so that
no character of a test block was ever seen in training. A block yields 64 windows of 64 characters, and the
target of each character is the one after it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sample_models.datasets.base import FOLDER, Data, Split, fractions

ALPHABET = "\n !$&()*,-.0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz—‘’“”"  # all of the text
LENGTH, WINDOWS = 64, 64
BLOCK = LENGTH * WINDOWS + 1  # the last target of the last window needs one character more
SOURCE = "Herman Melville, Moby-Dick, 1851; text of Project Gutenberg"
LICENCE = "Public domain"
SEED = 0
CODES = {character: code for code, character in enumerate(ALPHABET)}


def encode(text: str) -> Tensor:
    """Return the last 64 characters of a text as codes (T,) int64; one outside ALPHABET counts as a space."""
    return torch.tensor([CODES.get(character, CODES[" "]) for character in (text or "\n")[-LENGTH:]])


def decode(codes: Tensor) -> str:
    """Return the text behind codes (T,)."""
    return "".join(ALPHABET[int(code)] for code in codes)


def load() -> Data:
    """Return 80 / 10 / 10 % of the blocks as windows: x (64,) and y (64,), int64; y is x one character later."""
    text = (FOLDER / "mobydick.txt").read_text(encoding="utf-8")
    codes = torch.tensor([CODES[character] for character in text])
    blocks = codes[: len(codes) // BLOCK * BLOCK].reshape(-1, BLOCK)  # (blocks, 4097)
    x = blocks[:, :-1].reshape(-1, WINDOWS, LENGTH)  # (blocks, 64, 64)
    y = blocks[:, 1:].reshape(-1, WINDOWS, LENGTH)
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(blocks))
    ends = np.cumsum(fractions(len(blocks), (0.8, 0.1, 0.1)))[:-1]
    parts = {
        name: torch.from_numpy(np.sort(part))
        for name, part in zip(("train", "validation", "test"), np.split(order, ends), strict=True)
    }
    splits = {name: Split(x[part].flatten(0, 1), y[part].flatten(0, 1)) for name, part in parts.items()}
    return Data(splits, "text", SOURCE, LICENCE, classes=tuple(ALPHABET), decode=decode, encode=encode)
