"""Every door that a file comes in by, tried with every kind of hostile file: nothing runs, and each ends in one clear error."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from typer.testing import CliRunner

import explorer
from explorer.cli import app
from explorer.core.errors import ExplorerError
from explorer.core.recipe import Recipe
from explorer.files.data import read_data, read_upload
from explorer.files.limits import OWN, STRANGERS
from explorer.files.load import load, load_upload
from explorer.files.mapping_json import from_json as mapping_of
from explorer.ui.state import unpack
from tests.files import hostile, hostile_onnx
from tests.files.hostile_headers import HEADERS, NAMES_ALONE

resource = pytest.importorskip("resource")  # which Windows does not have

pytestmark = pytest.mark.filterwarnings("ignore")
GROWTH = 400 << 20  # bytes that an attack may add to the peak of this process
GOOD = "good.safetensors"


def command(*arguments: object) -> None:
    """A command of the command line, which ends with one line on stderr."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exit_code:
        assert result.exit_code == 2 and result.stderr.startswith("error: "), (result.exception, result.output)
        raise ExplorerError(result.stderr)


def other(path: Path) -> Path:
    """An honest checkpoint beside it."""
    good = path.with_name(GOOD)
    good.write_bytes(save({"a.weight": torch.zeros(2, 2)}))
    return good


# models: what no hostile file may come through; texts: what may be read as what it says, if it says something
MODELS: dict[str, Callable[[Path], Any]] = {
    "load": load, "load_upload": load_upload, "load_exported": explorer.load_exported, "load_packed": explorer.load_packed,
    "file_statistics": explorer.file_statistics, "file_thresholds": lambda path: explorer.file_thresholds(path, 0.5),
    "compare_files": lambda path: explorer.compare_files(path, other(path)), "compare_files, second": lambda path: explorer.compare_files(other(path), path),
    "inspect": lambda path: command("inspect", path), "inspect --header": lambda path: command("inspect", path, "--header"),
    "evaluate": lambda path: command("evaluate", path), "compare": lambda path: command("compare", path, other(path)),
}  # fmt: skip
DATA: dict[str, Callable[[Path], Any]] = {
    "data": lambda path: read_data(path, STRANGERS), "data of one's own": lambda path: read_data(path, OWN), "data upload": read_upload,
}  # fmt: skip
TEXTS: dict[str, Callable[[Path], Any]] = {
    "recipe": lambda path: Recipe.from_json(path.read_bytes().decode("utf-8", "replace")), "recipe file": lambda path: command("inspect", "bikes-mlp", "--recipe", path),
    "mapping": lambda path: mapping_of(path.read_bytes()), "link": lambda path: unpack(path.read_bytes().decode("latin-1")),
}  # fmt: skip
PICKLES = {f"{kind}, {what}": lambda make=make, what=what: make(hostile.PAYLOADS[what]()) for kind, make in hostile.CONTAINERS.items() for what in ("os.system", "exec")}  # fmt: skip
ATTACKS: dict[str, Callable[[], bytes]] = {
    **PICKLES, **{f"header: {name}": lambda data=data: data for name, data in HEADERS.items()}, **{f"archive: {name}": make for name, make in hostile.ARCHIVES.items()},
    **{f"onnx: {name}": make for name, make in hostile_onnx.REFUSED.items()}, "random": lambda: bytes(range(256)) * 20, "empty": lambda: b"",
}  # fmt: skip
NAMES = {f"header: {name}" for name in NAMES_ALONE}
STREAMED = (
    "file_statistics",
    "compare_files",
    "compare_files, second",
    "inspect --header",
    "compare",
)  # to which a name is a text, of any letters
QUICK = (
    "torch zip, exec", "torch legacy, os.system", "pickle 2, exec", "zip as an export, exec", "numpy, exec", "header: 2^63 elements", "header: overlapping",
    "header: no tensors", "archive: ..", "archive: link", "onnx: 2^63 rows", "random", "empty",
)  # fmt: skip
TIMES = [pytest.param(QUICK, id="some"), pytest.param(tuple(ATTACKS), id="all", marks=pytest.mark.slow)]


@cache
def made(name: str) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ATTACKS[name]()


@pytest.mark.parametrize("attacks", TIMES)
@pytest.mark.parametrize("entry", MODELS)
def test_no_hostile_file_comes_in(entry: str, attacks: tuple[str, ...], canary: Path, tmp_path: Path) -> None:
    before, through = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for name in attacks:
        data = made(name)
        path = tmp_path / f"model{'.zip' if data[:2] == b'PK' else '.safetensors'}"
        path.write_bytes(data)
        try:
            MODELS[entry](path)
        except ExplorerError as error:
            assert len(str(error).splitlines()[0]) < 800
        else:
            through.append(name)
        path.unlink()
    assert set(through) <= (NAMES if entry in STREAMED else set()) and not Path("/tmp/evil").exists()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GROWTH


@pytest.mark.parametrize("attacks", TIMES)
@pytest.mark.parametrize("entry", DATA | TEXTS)
def test_what_is_read_runs_nothing(entry: str, attacks: tuple[str, ...], canary: Path, tmp_path: Path) -> None:
    """Bytes may be lines of text to whoever asks for text; anything else is one error."""
    for suffix in (".npz", ".csv", ".parquet", ".zip", ".txt") if entry in DATA else (".json",):
        for name in attacks:
            path = tmp_path / f"data{suffix}"
            path.write_bytes(made(name))
            try:
                (DATA | TEXTS)[entry](path)
            except ExplorerError as error:
                assert len(str(error).splitlines()[0]) < 800


def _fuzz(cases: int, path: Path) -> None:
    starts = [
        b"",
        b"PK\x03\x04",
        b"\x80\x04",
        b"\x10" + bytes(7) + b"{",
        b"\x08\x08\x12\x01",
        b"{",
        b"[",
        b"PAR1",
        b"a,b\n",
    ]

    @settings(
        max_examples=cases, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(sorted(MODELS | DATA | TEXTS)), st.sampled_from(starts), st.binary(max_size=300))
    def attempt(entry: str, start: bytes, data: bytes) -> None:
        path.write_bytes(start + data)
        try:
            (MODELS | DATA | TEXTS)[entry](path)
        except ExplorerError as error:
            assert len(str(error).splitlines()[0]) < 800

    attempt()


def test_random_bytes(canary: Path, tmp_path: Path) -> None:
    _fuzz(100, tmp_path / "some.bin")


@pytest.mark.slow
def test_random_bytes_at_length(canary: Path, tmp_path: Path) -> None:
    _fuzz(2000, tmp_path / "some.bin")
