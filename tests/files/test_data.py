"""Data files -> columns -> a task that the model can be judged on: the same figures as with the data in memory."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import explorer
from explorer.core.errors import LoadError, TaskError
from explorer.files.data import read_data, read_upload
from explorer.files.limits import OWN, STRANGERS
from explorer.files.mapping import Mapping, inputs_of, targets_of, task_of
from explorer.files.propose import propose
from explorer.files.sanity import check
from tests.contract.nets import MLP, few, randomize
from tests.files import hostile


def _png(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def test_npz_gives_the_figures_of_the_data_in_memory(tmp_path: Path, device: str) -> None:
    subject = explorer.load("fashion-mlp")
    data = subject.task.dataset("validation")
    x, y = subject.task.batch("validation", range(300))
    np.savez(tmp_path / "d.npz", x=x.numpy(), y=y.numpy(), note=np.arange(3))
    source = read_data(tmp_path / "d.npz", OWN)
    assert source.n == 300 and set(source.columns) == {"x", "y"} and "note" in source.notes[0]
    proposed = propose(source)
    assert (proposed.inputs, proposed.target, proposed.kind, proposed.dtype) == (
        ("x",),
        "y",
        "classification",
        "float32",
    )
    task = task_of(source, replace(proposed, validation=0.5, test=0.25))
    mine = explorer.Subject(subject.module, task, "mine")
    assert [len(task.splits[s]) for s in ("train", "validation", "test")] == [75, 150, 75]
    index = {row.numpy().tobytes(): i for i, row in enumerate(x)}
    chosen = [index[task.dataset("validation")[i][0].numpy().tobytes()] for i in range(150)]
    with torch.no_grad():
        right = (subject.module(x[chosen]).argmax(1) == y[chosen]).double().mean().item()
    assert explorer.evaluate(mine, device=device).metrics["accuracy"] == pytest.approx(right)
    assert len(data) >= 300


def test_splits_are_stratified_seeded_and_disjoint(tmp_path: Path) -> None:
    y = np.repeat([0, 1, 2], [60, 30, 10])
    np.savez(tmp_path / "d.npz", x=np.arange(100, dtype=np.float32)[:, None], y=y)
    source = read_data(tmp_path / "d.npz", OWN)
    mapping = Mapping(("x",), "y", validation=0.2, test=0.2)
    seen = []
    for split in ("train", "validation", "test"):
        x, t = task_of(source, mapping).dataset(split).tensors
        seen += x[:, 0].int().tolist()
        assert torch.bincount(t, minlength=3).tolist() == pytest.approx(
            [0.6 * len(t), 0.3 * len(t), 0.1 * len(t)], abs=1.1
        )
    assert sorted(seen) == list(range(100))
    again, other = (task_of(source, replace(mapping, seed=s)).dataset("validation").tensors[0] for s in (0, 1))
    assert torch.equal(again, task_of(source, mapping).dataset("validation").tensors[0]) and not torch.equal(
        again, other
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_tables(suffix: str, tmp_path: Path, device: str) -> None:
    frame = pd.DataFrame(
        {
            "a": np.arange(40) * 0.5,
            "b": np.arange(40),
            "名": ["x", "y"] * 20,
            "label": ["cat", "dog", "cat", "emu"] * 10,
        }
    )
    path = tmp_path / f"表{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ";")
    source = read_data(path, OWN)
    mapping = propose(source)
    assert mapping.inputs == ("a", "b") and mapping.target == "label" and mapping.kind == "classification"
    assert inputs_of(source, mapping)[3].tolist() == [1.5, 3.0]
    targets, classes = targets_of(source, mapping)
    assert classes == ("cat", "dog", "emu") and targets[:4].tolist() == [0, 1, 0, 2]
    task = task_of(source, mapping)
    assert task.classes == classes and task.labels == ("a", "b") and task.display == "table"
    regression = task_of(source, replace(mapping, inputs=("a",), target="b", kind="regression"))
    module = randomize(MLP(widths=(1, 4, 1))).to(device)
    assert "r2" in explorer.evaluate(explorer.Subject(module, regression), device=device).metrics
    with pytest.raises(TaskError, match="'名' holds texts"):
        inputs_of(source, replace(mapping, inputs=("a", "名")))
    with pytest.raises(TaskError, match="no column 'c'"):
        inputs_of(source, replace(mapping, inputs=("c",)))


def test_pictures_in_class_folders_are_scaled_and_normalized(tmp_path: Path) -> None:
    red = np.zeros((8, 6, 3), dtype=np.uint8)
    red[..., 0] = 255
    members = {
        f"set/{c}/{i}.{k.lower()}": _png(red if c == "red" else 255 - red, k)
        for c in ("red", "other")
        for i, k in enumerate(("PNG", "BMP"))
    }
    (tmp_path / "d.zip").write_bytes(
        hostile.zipped(members | {"set/readme.txt": b"hello", "__MACOSX/set/red/._0.png": b"x"})
    )
    source = read_data(tmp_path / "d.zip", OWN)
    assert source.n == 4 and "readme.txt" in source.notes[0]
    assert propose(source).shape == (3, 8, 6)  # of the first picture
    mapping = replace(propose(source), shape=(3, 4, 4), mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 1.0))
    inputs, (targets, classes) = inputs_of(source, mapping), targets_of(source, mapping)
    assert classes == ("other", "red") and inputs.shape == (4, 3, 4, 4)
    first = inputs[targets == 1][0]
    assert torch.allclose(first[:, 0, 0], torch.tensor([1.0, -0.5, 0.0]), atol=1e-6)
    grey = inputs_of(source, replace(mapping, shape=(1, 4, 4), mean=(0.0,), std=(1.0,)))
    assert grey.shape == (4, 1, 4, 4) and 0.29 < grey[targets == 1][0, 0, 0, 0] < 0.31  # the luma of red
    assert task_of(source, replace(mapping, validation=0.5)).display == "image"


def test_lines_of_text_with_and_without_labels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("pos\tgood 好\nneg\tbad\n\npos\tfine\n", encoding="utf-8")
    source = read_data(tmp_path / "a.txt", OWN)
    mapping = replace(propose(source), length=6)
    assert mapping.target == "label" and mapping.dtype == "int64"
    assert inputs_of(source, mapping)[0].tolist() == [103, 111, 111, 100, 32, 0xE5]
    assert inputs_of(source, mapping)[1].tolist() == [98, 97, 100, 0, 0, 0]
    (tmp_path / "b.txt").write_text("one\ntwo\n", encoding="utf-8")
    assert propose(read_data(tmp_path / "b.txt", OWN)).kind == "agreement"


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((10, 12), np.float32), y=np.linspace(0, 1, 10), z=np.full((10, 2), np.nan))
    source = read_data(tmp_path / "d.npz", OWN)
    ok = Mapping(("x",), "y", "regression")
    assert inputs_of(source, replace(ok, shape=(3, 2, 2))).shape == (10, 3, 2, 2)
    for wrong, said in [
        (replace(ok, shape=(5, 5)), r"\(12,\); it cannot become \(5, 5\)"), (replace(ok, kind="classification"), "fractions"),
        (replace(ok, inputs=()), "no input column"), (replace(ok, inputs=("z",)), "NaN or infinity in 10 samples, the first is number 1"),
        (replace(ok, mean=(0.0, 1.0)), "one a channel"), (replace(ok, validation=0.9), "together at most 1"),
        (replace(ok, kind="odd"), "accepted: classification"), (replace(ok, target="z"), "missing values"),
        (replace(ok, dtype="complex64"), "accepted: float32"), (replace(ok, target=None), "needs a target"),
    ]:  # fmt: skip
        with pytest.raises(TaskError, match=said):
            task_of(source, wrong)


def test_sanity_finds_shuffled_labels_and_missing_normalization(device: str) -> None:
    from explorer.files.data import Source

    subject = explorer.load("fashion-lenet5")
    x, y = subject.task.batch("validation", range(400))
    shuffled = y[torch.randperm(400)]

    def look(inputs: torch.Tensor, targets: torch.Tensor) -> object:
        source = Source("arrays", {"x": inputs.numpy(), "y": targets.numpy()})
        return check(
            explorer.Subject(subject.module, task_of(source, Mapping(("x",), "y", validation=0.5, test=0.25))), device
        )

    good = look(x, y)
    assert good.figure.value > 0.8 and not good.hints and sum(good.balance.values()) == 200
    assert "on 10 classes: labels shuffled, or normalization missing?" in look(x, shuffled).hints[0]
    assert any("1/255" in hint for hint in look(x * 255, y).hints)
    assert any("one class" in hint for hint in look(x, torch.zeros_like(y)).hints)


def _object_array() -> bytes:
    return hostile.numpy_objects(hostile.Runs(exec, hostile.CODE))


def _npz(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b" " * (118 - len(header)) + b"\n"
    return hostile.zipped({"x.npy": b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data})


def _bomb() -> bytes:
    return hostile.zipped({"x.npy": bytes(90_000_000)})


DATA = {
    "object array": _object_array, "huge shape": lambda: _npz("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 4)}"),
    "negative shape": lambda: _npz("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"),
    "code as a header": lambda: _npz("__import__('os').system('touch canary')"), "code as a dtype": lambda: _npz("{'descr': 'O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps(hostile.Runs(exec, hostile.CODE))),
    "bomb": _bomb, "broken picture": lambda: hostile.zipped({"a/b.png": b"\x89PNG\r\n\x1a\n" + bytes(50)}),
    "traversal": hostile.ARCHIVES[".."], "not parquet": lambda: b"PAR1" + bytes(100) + b"PAR1",
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet", ".zip", ".txt"])
def test_hostile_data(case: str, suffix: str, canary: Path, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_bytes(DATA[case]())
    with pytest.raises(LoadError, match="data"):
        read_data(path, STRANGERS)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".zip"])
def test_data_cut_short_at_every_percent(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    if suffix == ".npz":
        np.savez(path, x=np.ones((50, 3)), y=np.arange(50))
    elif suffix == ".parquet":
        pd.DataFrame({"x": np.arange(50), "y": ["a", "b"] * 25}).to_parquet(path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for i in range(5):
                archive.writestr(f"a/{i}.png", _png(np.zeros((8, 8), np.uint8)))
    whole = path.read_bytes()
    assert read_data(path, STRANGERS).n
    for percent in range(100):
        path.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(LoadError, match="data"):
            read_data(path, STRANGERS)


def test_pictures_too_large_to_unpack(tmp_path: Path) -> None:
    picture = bytearray(_png(np.zeros((2, 2), np.uint8)))
    picture[16:24] = (50_000).to_bytes(4, "big") * 2  # IHDR's width and height
    picture[29:33] = __import__("zlib").crc32(bytes(picture[12:29])).to_bytes(4, "big")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("a/b.png", bytes(picture))
    with pytest.raises(LoadError, match="data"):
        read_data(tmp_path / "data.zip", OWN)


@pytest.mark.parametrize(("name", "data"), [("a.csv", b'a,b\n"1,2\n'), ("b.parquet", b"PAR1" + bytes(100)), ("c.txt", b"\xff\xfe\x00a")])
def test_a_librarys_words_come_after_ours(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(LoadError, match=rf"{name}: (cannot be read as data|not a UTF-8 text); accepted: .*\(.+\)$"):
        read_data(tmp_path / name, OWN)


@settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    data=st.binary(max_size=400),
    start=st.sampled_from([b"", b"PAR1", b"PK\x03\x04"]),
    suffix=st.sampled_from([".csv", ".npz", ".txt", ".parquet"]),
)
def test_random_bytes_are_data_or_one_error(data: bytes, start: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    path.write_bytes(start + data)
    try:
        assert read_data(path, STRANGERS).n > 0
    except LoadError as error:
        assert "data" in str(error)


def test_on_a_shared_server_a_child_reads_first(canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_SHARED", "1")
    path = tmp_path / "data.npz"
    path.write_bytes(_object_array())
    with pytest.raises(LoadError, match="Python objects"):
        read_upload(path)
    np.savez(path, x=np.zeros((3, 2)))
    assert read_upload(path).n == 3


SEQUENCES = [("vowels-lstm", "classification", "sequence"), ("moby-lstm", "language_model", "text")]


@pytest.mark.parametrize(("name", "kind", "display"), SEQUENCES)
def test_sequences_give_the_figures_of_the_data_in_memory(name: str, kind: str, display: str, tmp_path: Path, device: str) -> None:
    subject = few(name, 48, device)
    x, y = subject.task.batch("validation", range(48))
    np.savez(tmp_path / "d.npz", x=x.numpy(), y=y.numpy())
    source = read_data(tmp_path / "d.npz", OWN)
    mapping = replace(propose(source), inputs=("x",), target="y", kind=kind, validation=0.5, test=0.25)
    task = task_of(source, mapping)
    kept = [task.dataset("validation")[i] for i in range(24)]
    assert task.display == display and kept[0][0].dtype == x.dtype and kept[0][0].shape == x.shape[1:]
    own = dict(classification=explorer.Task.classification, language_model=explorer.Task.language_model)[kind]
    expected = explorer.evaluate(explorer.Subject(subject.module, own(validation=kept)), device=device).metrics
    found = explorer.evaluate(explorer.Subject(subject.module, task), device=device).metrics
    assert dict(found) == pytest.approx(dict(expected), rel=1e-5) and len(found) > 1
