"""ONNX files of every form: where weights lie, types, sizes, functions, inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import explorer
from explorer.core.errors import EvaluationError, LoadError
from explorer.export.annotated import annotated
from tests.files import onnx_files as files
from tests.files.onnx_files import HALF, gap, same_answers, subject_of, torch_of

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "way",
    [
        "constants",
        "floats",
        "unfolded",
        "fixed",
        pytest.param("newer", marks=pytest.mark.slow),
        "no names",
        "old inputs",
    ],
)
@pytest.mark.parametrize("kind", ["mlp", "lstm"])
def test_weights_wherever_a_file_keeps_them(way: str, kind: str, tmp_path: Path) -> None:
    model = files.exported(kind, 18 if way == "newer" else 17, way != "fixed", way != "unfolded", way == "newer")
    if way == "constants":
        model = files.constants(model)
    elif way == "floats":
        model = files.floats(model)
    elif way == "no names":  # numbers, as many converters have them
        names = {one.name: str(i) for i, one in enumerate(model.graph.initializer)}
        for one in model.graph.initializer:
            one.name = names[one.name]
        for i, node in enumerate(model.graph.node):
            node.name = f"{node.op_type}_{i}"
            node.input[:] = [names.get(name, name) for name in node.input]
    elif way == "old inputs":
        model.graph.input.extend(
            helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in model.graph.initializer
        )
    subject = subject_of(files.saved(model, tmp_path / "m.onnx"), kind)
    same_answers(subject, kind)
    assert sorted(one.numel for one in subject.layers) == sorted(
        p.numel() for p in files.net(kind).parameters() if p.ndim > 1
    )
    reference = explorer.evaluate(torch_of(kind), HALF)
    assert explorer.evaluate(subject, HALF).metrics == pytest.approx(reference.metrics, rel=1e-4, abs=1e-5)
    again = explorer.export(subject, HALF, tmp_path / "out", formats=["onnx"])
    assert again.checks["model.onnx"] <= 1e-5


def test_a_file_of_a_fixed_batch_is_run_piece_by_piece(tmp_path: Path) -> None:
    subject = subject_of(files.saved(files.exported("mlp", dynamic=False), tmp_path / "m.onnx"), "mlp")
    assert subject.module.graph.inputs[0].shape == (3, 6)
    for n in (1, 3, 7):
        x = files.inputs("mlp", n)
        assert gap(files.net("mlp")(x), subject.module(x)) <= 1e-6
    assert explorer.evaluate(subject).macs == explorer.evaluate(torch_of("mlp")).macs == 72


@pytest.mark.parametrize("kind", files.NETS)
def test_half_precision(kind: str, tmp_path: Path) -> None:
    path = files.saved(files.halved(files.exported(kind)), tmp_path / "m.onnx")
    subject = subject_of(path, kind)
    same_answers(subject, kind, 2e-2)
    assert {p.dtype for p in subject.module.parameters()} == {torch.float32}
    module = explorer.compress(subject, HALF)
    bundle = explorer.export(subject, HALF, tmp_path / "out", formats=["onnx"])
    written = onnx.load(bundle.folder / "model.onnx")
    assert TensorProto.FLOAT not in {one.data_type for one in written.graph.initializer}
    x = files.inputs(kind, 4)
    session = onnxruntime.InferenceSession(bundle.folder / "model.onnx")
    feed = x.numpy() if kind == "transformer" else x.half().numpy()
    assert gap(torch.from_numpy(session.run(None, {"x": feed})[0]).float(), module(x)) <= 1e-2


def test_external_data_beside_the_file_in_a_folder_and_in_a_zip(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    path = files.external(files.exported("cnn"), folder / "m.onnx", "data/weights.bin")
    zipped = tmp_path / "m.zip"
    import zipfile

    with zipfile.ZipFile(zipped, "w") as archive:
        for one in (path, folder / "data/weights.bin"):
            archive.write(one, f"sent/{one.relative_to(folder)}")
    for place in (path, folder, zipped):
        subject = subject_of(place, "cnn")
        same_answers(subject, "cnn")
        assert subject.card["format"] == "ONNX"
    (folder / "data/weights.bin").unlink()
    with pytest.raises(LoadError, match=r"data/weights\.bin, which is not there"):
        explorer.load(path)


def test_functions_of_a_file_stay_in_it(tmp_path: Path) -> None:
    x, w = helper.make_tensor_value_info("x", 1, ["n", 4]), torch.randn(4, 3)
    ops = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    inner = helper.make_function("mine", "Dense", ["a", "b"], ["c"], [helper.make_node("MatMul", ["a", "b"], ["d"]), helper.make_node("Relu", ["d"], ["c"])], ops[:1])  # fmt: skip
    graph = helper.make_graph([helper.make_node("Dense", ["x", "w"], ["y"], "call", domain="mine")], "g", [x], [helper.make_tensor_value_info("y", 1, None)], [numpy_helper.from_array(w.numpy(), "w")])  # fmt: skip
    path = files.saved(
        helper.make_model(graph, opset_imports=ops, functions=[inner], ir_version=8), tmp_path / "m.onnx"
    )
    data = torch.randn(20, 4)
    subject = explorer.load(path, explorer.Task.agreement(data))
    assert [(one.name, one.kind, one.shape) for one in subject.layers] == [("w", "linear", (3, 4))]
    assert gap((data @ w).relu(), subject.module(data)) <= 1e-6 and explorer.evaluate(subject).macs == 12
    bundle = explorer.export(subject, HALF, tmp_path / "out", formats=["onnx"])
    written = onnx.load(bundle.folder / "model.onnx")
    assert [one.name for one in written.functions] == ["Dense"] and (
        numpy_helper.to_array(written.graph.initializer[0]) == 0
    ).sum() == 6
    marks = annotated(subject, explorer.resolve(subject, HALF)).marks
    assert {one["layer"]: one["sparsity"] for one in marks.values()} == {"w": 0.5}


def test_inputs_that_do_not_fit_are_said_clearly(tmp_path: Path) -> None:
    module = explorer.load(files.saved(files.exported("mlp"), tmp_path / "m.onnx")).module
    for args, said in (
        ((torch.zeros(2, 5),), r"shape \(2, 5\); accepted by the file: \(any, 6\)"), ((), "0 inputs"), ((1, 2), "2 inputs"), (("a",), "accepted: a tensor"),
    ):  # fmt: skip
        with pytest.raises(EvaluationError, match=said):
            module(*args)
    assert module(x=torch.zeros(2, 6, dtype=torch.int64)).shape == (2, 3)
    tokens = explorer.load(files.saved(files.exported("transformer"), tmp_path / "t.onnx")).module
    with pytest.raises(EvaluationError, match=r"torch\.float32; accepted by the file: torch\.int64"):
        tokens(torch.zeros(2, 7))


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    a, b = (helper.make_tensor_value_info(name, 1, ["n", 3]) for name in "ab")
    outs = [helper.make_tensor_value_info(name, 1, None) for name in ("y", "z")]
    nodes = [
        helper.make_node("MatMul", ["a", "w"], ["p"], "left"),
        helper.make_node("Add", ["p", "b"], ["y"], "sum"),
        helper.make_node("Relu", ["y"], ["z"], "relu"),
    ]
    weight = np.random.default_rng(0).normal(size=(3, 3)).astype("float32")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [a, b], outs, [numpy_helper.from_array(weight, "w")]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    data = [{"b": torch.randn(3), "a": torch.randn(3)} for _ in range(30)]
    subject = explorer.load(files.saved(model, tmp_path / "m.onnx"), explorer.Task.agreement(data))
    y, z = subject.module(data[0]["a"][None], data[0]["b"][None])
    assert torch.equal(z, y.relu()) and gap(data[0]["a"] @ torch.from_numpy(weight) + data[0]["b"], y[0]) <= 1e-6
    assert explorer.evaluate(subject).metrics["agreement"] == 1
    labelled = [(one, int(subject.module(**{k: v[None] for k, v in one.items()})[0].argmax())) for one in data]
    classes = explorer.Subject(subject.module, explorer.Task.classification(validation=labelled))  # of the first output
    assert explorer.evaluate(classes).metrics["accuracy"] == 1 and explorer.evaluate(classes).macs == 9
    assert explorer.export(subject, HALF, tmp_path / "out", formats=["onnx"]).checks["model.onnx"] <= 1e-6


def test_files_without_usable_inputs_are_weights_only(tmp_path: Path) -> None:
    model = files.exported("mlp")
    text = helper.make_node("StringNormalizer", ["t"], ["u"], "text")
    model.graph.node.append(text)
    model.graph.input.append(helper.make_tensor_value_info("t", TensorProto.STRING, ["k"]))
    model.graph.output.append(helper.make_tensor_value_info("u", TensorProto.STRING, ["k"]))
    subject = explorer.load(files.saved(model, tmp_path / "m.onnx"))
    assert subject.card["forward"] is False and "tensor(string)" in str(subject.card["notes"][-1])
    assert explorer.resolve(subject, HALF).masks["0.weight"].sum() == 24
