"""Surnames in 16 languages, from the person providers of the Python package Faker (MIT, data/surnames.NOTICE.txt).

Names are lower-cased and read as characters: 0 is padding, 1 a character outside ALPHABET, 2 the first of it.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import torch
from torch import Tensor

from sample_models.datasets.base import FOLDER, Data, Split, fractions, stratified_split

ALPHABET = " ',-abcdefghijklmnopqrstuvwxyzßàáäåæçèéêëìíîðñòóôõöùúüýþćčďđľňšťž"  # all of the file
LENGTH = 20  # the longest name in the file; a longer one typed by a person is cut
PADDING, UNKNOWN, FIRST = 0, 1, 2
SOURCE = "Surnames from the person providers of Faker 40.54.0"
LICENCE = "MIT, (c) 2012 Daniele Faraglia"
SEED = 0
CODES = {character: FIRST + i for i, character in enumerate(ALPHABET)}


def normalize(name: str) -> str:
    """Lower-case and composed (NFC), as the alphabet is written."""
    return unicodedata.normalize("NFC", name.strip().lower())


def encode(name: str) -> Tensor:
    """Return a name as character codes (LENGTH,) int64, zeros after its end."""
    codes = [CODES.get(character, UNKNOWN) for character in normalize(name)[:LENGTH]]
    return torch.tensor(codes + [PADDING] * (LENGTH - len(codes)))


def decode(codes: Tensor) -> str:
    """Return the name behind character codes (T,); unknown characters show as U+FFFD."""
    characters = {UNKNOWN: "\N{REPLACEMENT CHARACTER}", **{code: character for character, code in CODES.items()}}
    return "".join(characters[int(code)] for code in codes if int(code) != PADDING)


def read() -> dict[str, str]:
    """Return {normalized name: language}; a comma may stand within a name, never within a language."""
    lines = (FOLDER / "surnames.csv").read_text(encoding="utf-8").splitlines()[1:]
    return {normalize(name): language for name, _, language in (line.rpartition(",") for line in lines)}


def load() -> Data:
    """Return 70 / 15 / 15 % of the names, stratified by language; names (20,) int64, languages in English."""
    names = read()
    classes = tuple(sorted(set(names.values())))
    inputs = torch.stack([encode(name) for name in names])
    targets = torch.tensor([classes.index(language) for language in names.values()])
    sizes = fractions(len(names), (0.70, 0.15, 0.15))
    parts = map(torch.from_numpy, stratified_split(np.asarray(targets), sizes, SEED))
    splits = {
        name: Split(inputs[part], targets[part])
        for name, part in zip(("train", "validation", "test"), parts, strict=True)
    }
    return Data(splits, "text", SOURCE, LICENCE, classes=classes, decode=decode, encode=encode)
