"""Nothing in a file is executed, whatever it is and is called; each is one clear error, in little memory."""

from __future__ import annotations

import resource
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from explorer.core.errors import LoadError
from explorer.files.child import probe
from explorer.files.limits import OWN, STRANGERS, Limits, parse_json
from explorer.files.load import load_upload, open_model
from tests.files import hostile, hostile_onnx
from tests.files.hostile_headers import HEADERS

pytestmark = pytest.mark.filterwarnings("ignore")
GROWTH = 400 << 20  # bytes that an attack may add to the peak of this process


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def refused(path: Path, limits: Limits = OWN) -> LoadError:
    """The one clear error that opening the file ends with."""
    before = peak()
    with pytest.raises(LoadError) as caught:
        open_model(path, limits)
    first = str(caught.value).splitlines()[0]
    assert path.name in first and len(first) < 800
    assert peak() - before < GROWTH
    return caught.value


@pytest.mark.parametrize("container", hostile.CONTAINERS)
@pytest.mark.parametrize("payload", hostile.PAYLOADS)
def test_pickles_in_every_container_under_every_name(
    payload: str, container: str, canary: Path, tmp_path: Path
) -> None:
    data = hostile.CONTAINERS[container](hostile.PAYLOADS[payload]())
    for suffix in hostile.SUFFIXES:
        path = tmp_path / f"model{suffix}"
        path.write_bytes(data)
        refused(path)
        path.unlink()


def test_a_refused_pickle_names_what_it_would_call_and_how_to_convert_it(canary: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(hostile.torch_zip({"a": hostile.Runs(exec, hostile.CODE)}))
    error = refused(path)
    assert "builtins.exec" in str(error) and "save_model" in str(error)
    assert len(error.lines.splitlines()) == 3
    compile(error.lines, "lines", "exec")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hostile.program(tmp_path_factory.mktemp("program"))


@pytest.mark.parametrize("case", hostile.PROGRAMS)
def test_programs_that_ask_for_more_than_computing(case: str, honest: bytes, canary: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(hostile.changed(honest, hostile.PROGRAMS[case]))
    refused(path)


@pytest.mark.parametrize("case", hostile.IGNORED)
def test_parts_of_programs_that_torch_would_run_are_not_read(
    case: str, honest: bytes, canary: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(honest)
    x = torch.randn(4, 3)
    with torch.no_grad():
        expected = open_model(path, OWN).module(x)
        path.write_bytes(hostile.changed(honest, hostile.IGNORED[case]))
        assert torch.equal(open_model(path, OWN).module(x), expected)


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_state_the_impossible(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(HEADERS[case])
    refused(path)


@pytest.mark.parametrize("case", hostile.ARCHIVES)
def test_archives_that_unpack_to_too_much_or_elsewhere(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.write_bytes(hostile.ARCHIVES[case]())
    refused(path, STRANGERS)
    assert [p.name for p in tmp_path.iterdir()] == ["model.zip"] and not Path("/tmp/evil").exists()


def test_tensors_larger_than_their_bytes(tmp_path: Path) -> None:
    for data in hostile.tensors_beyond().values():
        path = tmp_path / "model.pt"
        path.write_bytes(data)
        refused(path)


def _whole(kind: str, honest: bytes) -> bytes:
    tensors = {"a.weight": torch.randn(20, 30), "a.bias": torch.randn(20)}
    return {"safetensors": lambda: save(tensors), "zip": lambda: hostile.torch_zip(tensors), "legacy": lambda: hostile.torch_legacy(tensors),
            "pt2": lambda: honest, "export": lambda: hostile.zipped({"out/model.safetensors": save(tensors)}), "onnx": lambda: hostile_onnx.model().SerializeToString()}[kind]()  # fmt: skip


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy", "pt2", "export"])
def test_files_cut_short_at_every_percent(kind: str, honest: bytes, tmp_path: Path) -> None:
    data = _whole(kind, honest)
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    open_model(path, OWN)
    for percent in range(100):
        path.write_bytes(data[: len(data) * percent // 100])
        refused(path)


def _any_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        found = open_model(path, STRANGERS)
    except LoadError as error:
        assert path.name in str(error).splitlines()[0]
    else:
        assert not found.module.training


@st.composite
def _damaged(draw: st.DrawFn, wholes: dict[str, bytes]) -> bytes:
    """A real file with some of its bytes replaced, or nothing but random bytes behind a known beginning."""
    if draw(st.booleans()):
        start = draw(
            st.sampled_from(
                [b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x10" + bytes(7) + b"{", b"\x89HDF\r\n", b"\x93NUMPY", b"\x08\x08\x12\x01"]
            )
        )
        return start + draw(st.binary(max_size=300))
    data = bytearray(wholes[draw(st.sampled_from(sorted(wholes)))])
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(data) - 1))
        piece = draw(st.binary(min_size=1, max_size=8))
        data[at : at + len(piece)] = piece
    return bytes(data)


KINDS = ("safetensors", "zip", "legacy", "pt2", "export", "onnx")


def _fuzz(cases: int, honest: bytes, tmp_path: Path) -> None:
    torch.manual_seed(0)
    wholes = {kind: _whole(kind, honest) for kind in KINDS}

    @settings(
        max_examples=cases, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(_damaged(wholes))
    def attempt(data: bytes) -> None:
        _any_bytes(tmp_path / "model.bin", data)

    attempt()


def test_random_damage(honest: bytes, canary: Path, tmp_path: Path) -> None:
    _fuzz(100, honest, tmp_path)


@pytest.mark.slow
def test_random_damage_at_length(honest: bytes, canary: Path, tmp_path: Path) -> None:
    _fuzz(2000, honest, tmp_path)


def test_a_shared_server_looks_in_a_child_first(
    honest: bytes, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPLORER_SHARED", "1")
    good = tmp_path / "good.safetensors"
    good.write_bytes(save({"a.weight": torch.randn(4, 4)}))
    assert load_upload(good).layers[0].name == "a.weight"
    bad = tmp_path / "bad.pt"
    bad.write_bytes(hostile.torch_zip({"a": hostile.Runs(exec, hostile.CODE)}))
    with pytest.raises(LoadError, match=r"bad\.pt.*builtins\.exec") as caught:
        load_upload(bad)
    assert str(tmp_path) not in str(caught.value)  # where a server keeps its files is its own business
    program = tmp_path / "a.pt2"
    program.write_bytes(honest)
    with pytest.raises(LoadError, match="shared server"):
        load_upload(program)


@pytest.mark.slow
def test_a_child_that_takes_too_much_is_ended(tmp_path: Path) -> None:
    from dataclasses import replace

    path = tmp_path / "large.pt"
    torch.save({"a": torch.zeros(64, 1000, 1000, dtype=torch.uint8)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(LoadError, match=r"large\.pt"):
        probe(path, limits=replace(STRANGERS, memory=256 << 20))


def test_json_within_limits() -> None:
    assert parse_json('{"a": [1, {"b": 2}]}', "here", OWN) == {"a": [1, {"b": 2}]}
    for text in ("", "{", "[" * 200_000, "[" * 65 + "]" * 65, "x" * 10):
        with pytest.raises(LoadError, match="here"):
            parse_json(text, "here", OWN)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="neither"):
        open_model(tmp_path, OWN)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(LoadError, match="empty"):
        open_model(tmp_path / "empty", OWN)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(LoadError, match="TensorFlow"):
        open_model(tmp_path / "saved", OWN)


FOREIGN = {
    "keras": hostile.zipped({"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b"x"}), "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "gguf": b"GGUF" + bytes(99), "tflite": bytes(4) + b"TFL3" + bytes(99), "text": b"hello, world", "numpy": b"\x93NUMPY" + bytes(99),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_are_refused_with_three_lines(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(FOREIGN[kind])
    error = refused(path)
    assert len(error.lines.splitlines()) == 3
