"""Files that are not what their names say, or not whole: one message with the file's name, what is wrong, and what would be accepted."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

import explorer
from explorer.core.errors import LoadError
from explorer.export.exporters import registry


def zipped(**members: str) -> bytes:
    """A zip of texts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return out.getvalue()


def saved(value: object) -> bytes:
    """What torch.save writes."""
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model in every format that is cut below."""
    folder, subject = tmp_path_factory.mktemp("whole"), explorer.load("vowels-rnn")
    for name in ("onnx", "safetensors", "pt2"):
        registry[name]().write(subject, explorer.resolve(subject, explorer.Recipe()), subject.module, folder)
    (folder / "model.pth").write_bytes(saved(subject.module.state_dict()))
    return folder


WHOLE = "accepted: the whole file, saved or downloaded again"


@pytest.mark.parametrize(("suffix", "wrong"), [("onnx", "cut short"), ("safetensors", "cut short"), ("pth", "the zip is damaged or cut short"), ("pt2", "")])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_short(whole: Path, tmp_path: Path, suffix: str, wrong: str, share: float) -> None:
    content = (whole / f"model.{suffix}").read_bytes()
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(LoadError) as caught:
        explorer.load(path)
    assert path.name in str(caught.value) and wrong in str(caught.value) and WHOLE in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "wrong", "accepted"),
    [
        ("text.pt", b"a few lines of text\n" * 9, "of no known format", "accepted: an export of this package"),
        ("text.onnx", b"a few lines of text\n" * 9, "no usable ONNX file", WHOLE),
        ("text.safetensors", b"a few lines of text\n" * 9, "no usable safetensors file", WHOLE),
        ("empty.zip", zipped(), "the zip is empty", "accepted: an export of this package"),
        ("other.zip", zipped(a="b"), "of no known format", "accepted: an export of this package"),
        ("nothing.pt", b"", "the file is empty", WHOLE),
        ("numbers.pt", saved({"epochs": 12, "loss": 0.5}), "no state dict in it (found: epochs, loss)", "accepted: {name: tensor}"),
        ("old.pt", saved([1, 2])[:40], "the zip is damaged or cut short", WHOLE),
        ("pickle.pt", b"\x80\x02}q\x00(X\x01", "the pickle is damaged or cut short", WHOLE),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_a_file_that_is_something_else(tmp_path: Path, name: str, content: bytes, wrong: str, accepted: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LoadError) as caught:
        explorer.load(path)
    assert name in str(caught.value) and wrong in str(caught.value) and accepted in str(caught.value)
    assert hasattr(caught.value, "lines") == (wrong == "of no known format")  # there is nothing to convert in the others
