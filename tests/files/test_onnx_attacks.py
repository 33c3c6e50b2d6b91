"""A hostile ONNX file costs an error message: nothing is read elsewhere, memory and time are bounded."""

from __future__ import annotations

import resource
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import explorer
from explorer.core.errors import EvaluationError, ExplorerError, LoadError
from explorer.files.child import probe
from explorer.files.limits import OWN, STRANGERS
from explorer.files.load import load_upload, open_model
from explorer.models.onnx_graph import OnnxGraph, open_lifted
from tests.files import hostile_onnx as hostile
from tests.files import onnx_files as files
from tests.files.test_attacks import GROWTH, peak, refused

pytestmark = pytest.mark.filterwarnings("ignore")


def written(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return path


def test_the_honest_one_opens(tmp_path: Path) -> None:
    found = open_model(written(hostile.model().SerializeToString(), tmp_path), OWN)
    assert found.forward and torch.equal(found.module(torch.ones(2, 4)), torch.full((2, 3), 4.0))


@pytest.mark.parametrize("case", hostile.REFUSED)
def test_files_that_lie(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    refused(written(hostile.REFUSED[case](), tmp_path))


@pytest.mark.parametrize("place", hostile.PLACES, ids=lambda p: repr(p)[:20])
def test_external_data_elsewhere(place: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    inner = tmp_path / "inner"
    inner.mkdir()
    path = inner / "model.onnx"
    path.write_bytes(hostile.outside(place))
    refused(path)
    zipped = tmp_path / "model.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(path, "inner/model.onnx")
        archive.write(tmp_path / "secret.bin", "secret.bin")
    refused(zipped)


def test_external_data_behind_links_or_beyond_their_file(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    folder = tmp_path / "model"
    (folder / "real").mkdir(parents=True)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "up").symlink_to(tmp_path)
    (folder / "short.bin").write_bytes(bytes(40))
    for location, rows in (
        ("link.bin", {}), ("up/secret.bin", {}), ("real", {}), ("short.bin", {}), ("short.bin", {"offset": 8}), ("short.bin", {"length": 1 << 62}),
        ("short.bin", {"offset": 1 << 62}), ("short.bin", {"offset": -4}), ("short.bin", {"length": "x"}), ("missing.bin", {}),
    ):  # fmt: skip
        path = folder / "model.onnx"
        path.write_bytes(hostile.outside(location, **rows))
        refused(path)
    path.write_bytes(hostile.outside("../secret.bin"))
    refused(folder)


def test_an_upload_reads_no_file_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may stand in a folder with files of such names: ONNX Runtime is given bytes alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    (tmp_path / "sent").mkdir()
    refused(written(hostile.outside("secret.bin"), tmp_path / "sent"))

    def edit(made: onnx.ModelProto) -> None:  # in a node within a node's graph, where no weight is looked for
        value = onnx.TensorProto(name="c", data_type=1, dims=[12], data_location=1)
        value.external_data.add(key="location", value="secret.bin")
        inner = helper.make_graph(
            [helper.make_node("Constant", [], ["c"], value=value)],
            "inner",
            [],
            [helper.make_tensor_value_info("c", 1, [12])],
        )
        made.graph.node.insert(0, helper.make_node("If", ["go"], ["q"], then_branch=inner, else_branch=inner))
        made.graph.initializer.append(numpy_helper.from_array(np.array(True), "go"))

    refused(written(hostile.changed(edit), tmp_path / "sent"))


@pytest.mark.parametrize("case", hostile.ASKING)
def test_a_graph_that_asks_for_terabytes(case: str, tmp_path: Path) -> None:
    before = peak()
    found = open_model(written(hostile.ASKING[case](), tmp_path), OWN)
    if found.forward:
        with pytest.raises(EvaluationError, match="ONNX Runtime cannot run the file"):
            found.module(torch.ones(2, 4))
    assert peak() - before < GROWTH


def test_nodes_of_two_bytes_each(tmp_path: Path) -> None:
    size, body = len(hostile.EMPTY), bytearray()
    while size > 127:
        body.append(size & 127 | 128)
        size >>= 7
    data = hostile.model().SerializeToString() + b"\x3a" + bytes([*body, size]) + hostile.EMPTY
    path = written(data, tmp_path)
    before = peak()
    with pytest.raises(LoadError, match="more than 200,000 messages"):
        open_model(path, STRANGERS)
    assert peak() - before < GROWTH


def test_a_loop_without_end_is_ended_by_the_clock_and_not_begun_for_strangers(tmp_path: Path) -> None:
    path = written(hostile.loop(), tmp_path)
    found = open_model(path, OWN)
    graph = found.module.graph
    limited = OnnxGraph(graph.source, graph.lifted, graph.places, graph.kinds, graph.opset, seconds=1)
    with pytest.raises(EvaluationError, match=r"[Tt]erminate"):
        limited.run({"x": np.ones((1, 4), np.float32), **found.module.weights()})
    with pytest.raises(LoadError, match="decides itself how long"):
        open_model(path, STRANGERS)


@pytest.mark.parametrize(
    "name", ["forward", "__class__", "../../x", "a" * 3000, "x.y.z." * 100, "模型.weight", "_parameters", "graph", "a b\nc", "...", "w::file", "training"],
    ids=lambda n: n[:12].strip() or "dots",
)  # fmt: skip
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    made = hostile.model()
    made.graph.initializer[0].name = made.graph.node[-1].input[1] = name
    subject = explorer.load(written(made.SerializeToString(), tmp_path), explorer.Task.agreement(torch.ones(4, 4)))
    assert subject.layers[0].shape == (3, 4) and len(subject.layers[0].name) < 3000
    assert explorer.evaluate(subject, explorer.Recipe().prune("*", sparsity=0.5)).sparsity == 0.5


def test_names_that_would_take_each_others_place(tmp_path: Path) -> None:
    names = ["a", "a.b", "a b", "a_b", "a.b.c", "y"]
    tensors = [numpy_helper.from_array(np.full((3, 3), i + 2, np.float32), name) for i, name in enumerate(names[:-1])]
    steps = [
        helper.make_node("MatMul", [f"v{i}" if i else "v", one.name], [f"v{i + 1}"], f"n{i}")
        for i, one in enumerate(tensors)
    ]
    made = hostile.model()
    made.graph.node[0].output[0] = "v"
    made.graph.node.extend([*steps, helper.make_node("Identity", [f"v{len(steps)}"], ["y"])])
    made.graph.initializer.extend(tensors)
    found = open_model(written(made.SerializeToString(), tmp_path), OWN)
    assert len({name for name, _ in found.module.named_parameters()}) == 6
    expected = torch.ones(2, 4) @ torch.ones(4, 3)
    for i in range(len(tensors)):
        expected = expected @ torch.full((3, 3), float(i + 2))
    assert torch.equal(found.module(torch.ones(2, 4)), expected)


@pytest.fixture(scope="module")
def honest() -> bytes:
    return bytes(files.exported("lstm").SerializeToString())


def test_files_cut_short_at_every_percent(honest: bytes, tmp_path: Path) -> None:
    for percent in range(100):
        refused(written(honest[: len(honest) * percent // 100], tmp_path))


def test_archives_of_onnx_files(honest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    for members in ({"a.onnx": honest, "b.onnx": honest}, {"a.onnx": b"\x08\x07" + bytes(30 << 20)}, {"a.onnx": b""}):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        refused(path, STRANGERS)


def test_a_shared_server_runs_a_graph_in_a_child_first(
    honest: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPLORER_SHARED", "1")
    subject = load_upload(written(honest, tmp_path))
    assert subject.module.graph.seconds == 60 and subject.module.graph.memory == 2 << 30


@pytest.mark.slow
def test_what_a_child_meets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_SHARED", "1")
    probe(written(hostile.ASKING["ones"](), tmp_path))  # it asks for too much, and gets an error like everybody
    with pytest.raises(LoadError, match="own operator|not one of ONNX's own") as caught:
        load_upload(written(hostile.REFUSED["own operator"](), tmp_path))
    assert str(tmp_path) not in str(caught.value)


def test_one_bounded_store_holds_all_values() -> None:
    """What one graph may not take, it may not take in small pieces either."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    session = open_lifted(hostile.ASKING["computed"]())
    with pytest.raises(Exception, match="vailable memory|allocate|memory"):
        session.run(None, {"x": np.ones((1, 4), np.float32)})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - memory < GROWTH


def test_errors_are_explorer_errors() -> None:
    assert issubclass(LoadError, ExplorerError) and issubclass(EvaluationError, ExplorerError)
