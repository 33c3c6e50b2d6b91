"""The data sets: sizes, disjoint and stratified splits, encoding and decoding."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sample_models
from sample_models import data
from sample_models.datasets import Split, stratified_split
from sample_models.datasets.base import FOLDER

SIZES = {  # data set by one of its samples: train, validation, test, shape and type of x
    "fashion-mlp": (50_000, 10_000, 10_000, (1, 28, 28), torch.float32),
    "vowels-rnn": (270, 150, 220, (29, 12), torch.float32),
    "surnames-gru": (10_287, 2_205, 2_205, (20,), torch.int64),
    "moby-lstm": (14_848, 1_856, 1_856, (64,), torch.int64),
    "bikes-mlp": (6_051, 1_297, 1_297, (57,), torch.float32),
}
SPLITS = ("train", "validation", "test")


def rows(*splits: Split) -> Counter[bytes]:
    """What the splits hold together, as a multiset."""
    return Counter(row.tobytes() for split in splits for row in split.inputs.numpy())


@pytest.mark.parametrize("name", SIZES)
def test_sizes_shapes_and_types(name: str) -> None:
    *sizes, shape, dtype = SIZES[name]
    splits = data(name).splits
    assert [len(splits[key]) for key in SPLITS] == sizes
    for split in splits.values():
        x, y = split[len(split) - 1]
        assert (tuple(x.shape), x.dtype, x.isfinite().all()) == (shape, dtype, True)
        assert torch.equal(y, split.targets[-1])


@pytest.mark.parametrize("name", SIZES)
def test_bulk_access_equals_single_access(name: str) -> None:
    split = data(name).splits["validation"]
    for (x, y), i in zip(split.__getitems__([5, 0, 5]), (5, 0, 5), strict=True):
        assert torch.equal(x, split[i][0]) and torch.equal(y, split[i][1])
    with pytest.raises(IndexError):
        split[len(split)]


@pytest.mark.parametrize("name", SIZES)
def test_loading_again_gives_the_same_splits(name: str) -> None:
    again = sample_models._load.__wrapped__(sample_models.SAMPLES[name].data)
    for key, split in data(name).splits.items():
        assert torch.equal(again.splits[key].inputs, split.inputs)
        assert torch.equal(again.splits[key].targets, split.targets)


def test_samples_share_their_data_set() -> None:
    assert data("fashion-mlp") is data("fashion-vit")
    assert data("vowels-rnn") is not data("fashion-mlp")


@pytest.mark.parametrize(("name", "parts"), [("vowels-rnn", ("validation", "test")), ("surnames-gru", SPLITS)])
def test_every_class_has_its_share(name: str, parts: tuple[str, ...]) -> None:
    splits = data(name).splits
    counts = np.stack([np.bincount(splits[key].targets) for key in parts])  # (parts, classes)
    shares = counts.sum(1) / counts.sum()
    assert np.abs(counts - shares[:, None] * counts.sum(0)).max() <= 2


def test_fashion_is_balanced_and_nothing_is_lost() -> None:
    splits = data("fashion-mlp").splits
    assert np.bincount(splits["train"].targets).tolist() == [5_000] * 10
    assert np.bincount(splits["validation"].targets).tolist() == [1_000] * 10
    with np.load(FOLDER / "fmnist.npz") as file:
        assert rows(splits["train"], splits["validation"]) == Counter(row.tobytes() for row in file["x"])
        assert rows(splits["test"]) == Counter(row.tobytes() for row in file["xt"])
    x, _ = splits["test"][0]
    assert splits["test"].inputs.dtype == torch.uint8 and (x.min(), x.max()) == (0, 1)


def test_vowels_are_a_partition_of_the_file() -> None:
    splits = data("vowels-rnn").splits
    assert rows(*splits.values()).most_common(1)[0][1] == 1  # all 640 differ
    with np.load(FOLDER / "jvowels.npz") as file:
        assert rows(splits["train"]) == Counter(row.tobytes() for row in file["x"])
        assert rows(splits["validation"], splits["test"]) == Counter(row.tobytes() for row in file["xt"])
        lengths = Counter(file["lent"].tolist())
    frames = torch.cat([splits["validation"].inputs, splits["test"].inputs])
    assert Counter((frames != 0).any(-1).sum(1).tolist()) == lengths


def test_no_surname_stands_in_two_splits() -> None:
    source = data("surnames-gru")
    assert source.decode and source.encode and source.classes
    names = [source.decode(x) for split in source.splits.values() for x in split.inputs]
    assert len(set(names)) == len(names) == 14_697
    assert all(torch.equal(source.encode(str(name)), x) for name, x in zip(names, every(source.splits), strict=True))
    language = dict(zip(names, torch.cat([s.targets for s in source.splits.values()]).tolist(), strict=True))
    assert source.classes[language["bourgondië, van"]] == "Dutch"  # a comma within the name


def every(splits: dict[str, Split]) -> Tensor:
    return torch.cat([split.inputs for split in splits.values()])


def test_surnames_typed_by_a_person() -> None:
    source = data("surnames-gru")
    assert source.decode and source.encode
    assert source.decode(source.encode("  MÜLLER ")) == "müller"
    assert torch.equal(source.encode("Mu\N{COMBINING DIAERESIS}ller"), source.encode("Müller"))
    assert source.encode("王").tolist() == [1] + [0] * 19
    assert source.encode("").tolist() == [0] * 20
    assert source.encode("x" * 50).shape == (20,)


def test_moby_blocks_are_dealt_once() -> None:
    source = data("moby-lstm")
    assert source.decode and source.encode
    windows = rows(*source.splits.values())
    text = (FOLDER / "mobydick.txt").read_text(encoding="utf-8")
    blocks = [text[i : i + 4097] for i in range(0, len(text) - 4096, 4097)]
    wanted = Counter(source.encode(b[i : i + 64]).numpy().tobytes() for b in blocks for i in range(0, 4096, 64))
    assert windows == wanted and max(windows.values()) == 1
    x, y = source.splits["train"][0]
    assert torch.equal(x[1:], y[:-1])
    assert str(source.decode(x)) + str(source.decode(y[-1:])) in text


def test_moby_text_typed_by_a_person() -> None:
    source = data("moby-lstm")
    assert source.decode and source.encode
    assert source.decode(source.encode("Call me 王!")) == "Call me  !"
    assert source.encode("").shape == (1,)
    assert source.decode(source.encode("a" * 100 + "b")) == "a" * 63 + "b"


def test_bikes_are_a_partition_of_the_file() -> None:
    source = data("bikes-mlp")
    assert source.decode and source.labels and len(source.labels) == 57
    with (FOLDER / "bikeshare.csv").open(encoding="utf-8", newline="") as file:
        wanted = [key(row, float(row["bikers"])) for row in csv.DictReader(file)]
    seen = [key(source.decode(x), float(y)) for split in source.splits.values() for x, y in split]
    assert Counter(seen) == Counter(wanted)


def key(row: dict[str, object], target: float) -> tuple[object, ...]:
    words = [str(row[name]) for name in ("season", "mnth", "hr", "weekday", "weathersit", "holiday", "workingday")]
    return (*words, *(float(str(row[name])) for name in ("temp", "atemp", "hum", "windspeed")), target)


def test_bikes_are_standardized_on_train_only_and_stratified() -> None:
    splits = data("bikes-mlp").splits
    numbers = splits["train"].inputs[:, -4:]
    assert numbers.mean(0).abs().max() < 1e-5 and (numbers.std(0, correction=0) - 1).abs().max() < 1e-5
    assert splits["test"].inputs[:, -4:].mean(0).abs().max() > 1e-4
    means = [float(split.targets.mean()) for split in splits.values()]
    assert max(means) - min(means) < 0.05 * means[0]


def test_stratified_split_is_exact_seeded_and_disjoint() -> None:
    strata = np.repeat(np.arange(3), (10, 100, 890))
    parts = stratified_split(strata, (100, 300, 600), seed=1)
    assert [len(part) for part in parts] == [100, 300, 600]
    assert len(np.unique(np.concatenate(parts))) == 1_000
    assert [np.bincount(strata[part]).tolist()[1] for part in parts] == pytest.approx([10, 30, 60], abs=1)
    assert np.array_equal(parts[0], stratified_split(strata, (100, 300, 600), seed=1)[0])
    assert not np.array_equal(parts[0], stratified_split(strata, (100, 300, 600), seed=2)[0])
    with pytest.raises(ValueError, match="1001 of 1000"):
        stratified_split(strata, (1_001,), seed=1)


def test_split_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="3 inputs but 2 targets"):
        Split(torch.zeros(3, 1), torch.zeros(2))


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.iterdir() if "NOTICE" not in path.name))
def test_every_file_has_its_notice(file: str) -> None:
    notice = (FOLDER / f"{Path(file).stem}.NOTICE.txt").read_text(encoding="utf-8")
    assert notice.startswith(f"{file}: ") and "Changed" in notice
    assert any(licence in notice for licence in ("Permission is hereby granted", "CC BY 4.0", "public domain"))
