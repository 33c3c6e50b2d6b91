"""ONNX files as subjects: the figures of the torch model that they were made of, and files that anybody's runtime opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import TensorDataset

import explorer
from explorer.core.errors import EvaluationError, LoadError, UnsupportedError
from explorer.export import onnx_own
from explorer.export.annotated import annotated
from explorer.export.exporters import registry
from explorer.models.onnx_module import OnnxModule
from explorer.models.subject import Subject
from tests.contract.nets import SAMPLES, few
from tests.files import onnx_files as files

pytestmark = pytest.mark.filterwarnings("ignore")
HALF = explorer.Recipe().prune("*", sparsity=0.5)
QUICK = ("bikes-mlp", "vowels-rnn", "vowels-lstm")


def subject_of(path: Path, kind: str, n: int = 40) -> Subject:
    return explorer.load(path, explorer.Task.agreement(files.inputs(kind, n), train=files.inputs(kind, n)))


def torch_of(kind: str, n: int = 40) -> Subject:
    return Subject(files.net(kind), explorer.Task.agreement(files.inputs(kind, n)))


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / max(1.0, float(a.abs().max())))


@torch.no_grad()
def same_answers(subject: Subject, kind: str, tolerance: float = 1e-5) -> None:
    for n in (1, 5):
        x = files.inputs(kind, n)
        assert gap(files.net(kind)(x), subject.module(x)) <= tolerance


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SAMPLES])
def test_a_sample_comes_back_from_onnx_with_the_same_figures(name: str, tmp_path: Path, device: str) -> None:
    subject = few(name, 64, device)
    plain = explorer.compress(subject, explorer.Recipe()).cpu()
    registry["onnx"]().write(subject, explorer.resolve(subject, explorer.Recipe()), plain, tmp_path)
    again = explorer.load(tmp_path / "model.onnx", subject.task)
    before, after = explorer.evaluate(subject, device=device), explorer.evaluate(again, device=device)
    assert after.metrics == pytest.approx(before.metrics, rel=1e-4, abs=1e-5) and after.macs == before.macs
    assert {(one.name, one.kind, one.shape) for one in again.layers} == {
        (one.name, one.kind, one.shape) for one in subject.layers
    }
    recipe = HALF.quantize("*", bits=6, granularity="channel")
    masks, mine = explorer.resolve(subject, recipe).masks, explorer.resolve(again, recipe).masks
    for layer in again.layers:  # the exporter folds BatchNorm into convolutions: then these are the weights
        if torch.equal(again.weight(layer.name), subject.weight(layer.name).cpu()):
            assert torch.equal(mine[layer.name], masks[layer.name].cpu())
        oracle = nn.ParameterList([nn.Parameter(again.weight(layer.name).clone())])
        prune.l1_unstructured(oracle, "0", amount=0.5)
        assert torch.equal(mine[layer.name], oracle.get_buffer("0_mask").bool())
    if name != "fashion-resnet":
        first, second = (
            explorer.evaluate(subject, recipe, device=device),
            explorer.evaluate(again, recipe, device=device),
        )
        assert second.metrics == pytest.approx(first.metrics, rel=1e-3, abs=1e-4)
        assert (second.sparsity, second.macs, second.bytes, second.parameters) == (
            first.sparsity,
            first.macs,
            first.bytes,
            first.parameters,
        )


OPSETS = [
    pytest.param(kind, opset, marks=() if opset in (13, 21) else pytest.mark.slow)
    for kind in files.NETS
    for opset in range(13, 22)
]


@pytest.mark.parametrize(("kind", "opset"), OPSETS)
def test_networks_of_every_opset(kind: str, opset: int, tmp_path: Path) -> None:
    model = files.exported(kind, min(opset, 20))
    model = onnx.version_converter.convert_version(model, opset) if opset > 20 else model
    subject = subject_of(files.saved(model, tmp_path / "m.onnx"), kind)
    same_answers(subject, kind)
    reference, net = torch_of(kind), files.net(kind)
    assert {one.name: one.shape for one in subject.layers} == {
        n: tuple(p.shape) for n, p in net.named_parameters() if p.ndim > 1
    }
    if kind != "cnn":
        kinds = {one.name: one.kind for one in reference.layers}
        assert {one.name: one.kind for one in subject.layers} == kinds
    assert explorer.evaluate(subject).macs == explorer.evaluate(reference).macs
    assert subject.module.graph.opset == opset


RECIPES = {
    "hard": HALF, "2:4": explorer.Recipe().prune("fc2.weight", granularity="2:4"),
    "soft": explorer.Recipe().prune("*", sparsity=0.4, mode="scale", factor=0.3),
    "shrink": explorer.Recipe().prune("*", sparsity=0.4, mode="shrink"), "global": explorer.Recipe().prune("*", sparsity=0.4, scope="global"),
    "lamp": explorer.Recipe().prune("*", sparsity=0.4, scope="global", criterion="lamp"),
    "bits": explorer.Recipe().quantize("*", bits=3, granularity="channel"), "affine": explorer.Recipe().quantize("*", bits=4, scheme="affine"),
    "codebook": explorer.Recipe().quantize("*", bits=2, quantizer="kmeans-linear"),
}  # fmt: skip


@pytest.mark.parametrize("what", RECIPES)
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "transformer"])
def test_recipes_mean_the_same_as_for_the_torch_model(what: str, kind: str, tmp_path: Path) -> None:
    """Layouts of ONNX (transposed products, gates in another order) are not seen by a recipe."""
    recipe = RECIPES[what]
    if what == "2:4":
        recipe = explorer.Recipe().prune("up.weight" if kind == "transformer" else "head.weight", granularity="2:4")
    subject, reference = subject_of(files.saved(files.exported(kind), tmp_path / "m.onnx"), kind), torch_of(kind)
    mine, theirs = explorer.resolve(subject, recipe), explorer.resolve(reference, recipe)
    assert {n: m.tolist() for n, m in mine.masks.items()} == {n: m.tolist() for n, m in theirs.masks.items()}
    x = files.inputs(kind, 5)
    with torch.no_grad():
        found, expected = explorer.compress(subject, recipe)(x), explorer.compress(reference, recipe)(x)
    assert gap(expected, found) <= 1e-5
    assert explorer.evaluate(subject, recipe).bytes == explorer.evaluate(reference, recipe).bytes


def test_gates_are_those_of_torch(tmp_path: Path) -> None:
    subject, reference = subject_of(files.saved(files.exported("lstm"), tmp_path / "m.onnx"), "lstm"), torch_of("lstm")
    recipe = explorer.Recipe().prune("rnn.weight_hh_l0", granularity="gate", sparsity=0.5)
    name = "rnn.weight_hh_l0"
    assert torch.equal(explorer.resolve(subject, recipe).masks[name], explorer.resolve(reference, recipe).masks[name])


def test_masking_everything_changes_every_networks_outputs(tmp_path: Path) -> None:
    for kind in files.NETS:
        subject = subject_of(files.saved(files.exported(kind), tmp_path / f"{kind}.onnx"), kind)
        plain = explorer.evaluate(subject, HALF).main
        for layer in subject.layers:
            report = explorer.evaluate(subject, explorer.Recipe().prune(layer.name, threshold=1e9))
            assert report.metrics["cosine"] < 1 - 1e-6, (kind, layer.name, plain)


@pytest.mark.parametrize("way", ["constants", "floats", "unfolded", "fixed", "newer", "no names", "old inputs"])
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


@pytest.mark.parametrize("kind", files.NETS)
def test_an_exported_file_is_the_same_graph_with_other_weights(kind: str, tmp_path: Path) -> None:
    original = files.exported(kind, 15)
    subject = subject_of(files.saved(original, tmp_path / "m.onnx"), kind)
    recipe = HALF.quantize("*", bits=5, granularity="channel")
    bundle = explorer.export(subject, recipe, tmp_path / "out", formats=["onnx", "safetensors"])
    written = onnx.load(bundle.folder / "model.onnx")
    assert [n.op_type for n in written.graph.node] == [n.op_type for n in original.graph.node]
    assert list(written.opset_import) == list(original.opset_import) and written.ir_version == original.ir_version
    shapes = [{one.name: tuple(one.dims) for one in model.graph.initializer} for model in (written, original)]
    assert shapes[0] == shapes[1]
    module, x = explorer.compress(subject, recipe), files.inputs(kind, 7)
    session = onnxruntime.InferenceSession(bundle.folder / "model.onnx")
    assert gap(module(x), torch.from_numpy(session.run(None, {"x": x.numpy()})[0])) <= 1e-5
    again = subject_of(bundle.folder / "model.onnx", kind)
    assert {n: p.tolist() for n, p in again.module.named_parameters()} == {
        n: p.tolist() for n, p in module.named_parameters()
    }
    for whole in (bundle.folder, bundle.zip_path):  # its safetensors file holds weights alone
        assert subject_of(whole, kind).card["format"] == "ONNX"
    readme = (bundle.folder / "README.md").read_text(encoding="utf-8")
    assert '{"x": x}' in readme


def test_large_weights_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_own, "BESIDE", 1000)
    subject = subject_of(files.saved(files.exported("cnn"), tmp_path / "m.onnx"), "cnn")
    bundle = explorer.export(subject, HALF, tmp_path / "out", formats=["onnx"])
    assert {"model.onnx", "model.onnx.data"} <= set(bundle.files) and bundle.files["model.onnx"] < 3000
    assert explorer.evaluate(subject_of(bundle.folder, "cnn")).sparsity == explorer.evaluate(subject, HALF).sparsity


@pytest.mark.parametrize("kind", ["mlp", "lstm", "transformer"])
@pytest.mark.parametrize("form", ["onnx-int8", "onnx-int4"])
def test_files_of_integers(form: str, kind: str, tmp_path: Path) -> None:
    """The quantizers of this package in the file's own graph; activations stay floats, and a note says what stays."""
    subject = subject_of(files.saved(files.exported(kind, 13), tmp_path / "m.onnx"), kind)
    bundle = explorer.export(subject, HALF, tmp_path / "out", formats=[form])
    name = registry[form].filename
    stored = onnx.load(bundle.folder / name)
    assert any(node.op_type == "DequantizeLinear" for node in stored.graph.node) and not bundle.notes
    exact = 1e-2 if kind == "transformer" else 1e-5  # ONNX Runtime rounds what such products read by itself
    assert bundle.checks[name] <= exact and bundle.agreements[name].error <= exact
    meant = registry[form]().meaning(subject, HALF)
    x = files.inputs(kind, 4)
    found = onnxruntime.InferenceSession(bundle.folder / name).run(None, {"x": x.numpy()})[0]
    assert gap(explorer.compress(subject, meant)(x), torch.from_numpy(found)) <= 10 * exact


def test_what_an_onnx_graph_cannot_do_is_said_beforehand(tmp_path: Path) -> None:
    from explorer.analysis.criteria import registry as criteria
    from explorer.compress.calibrate import sites
    from explorer.evaluate.engine import engine

    data = TensorDataset(files.inputs("cnn"), torch.arange(40) % 5)
    task = explorer.Task.classification(train=data, validation=data)
    subject = explorer.load(files.saved(files.exported("cnn"), tmp_path / "m.onnx"), task)
    layer = subject.layers[0].name
    for recipe in (
        explorer.Recipe().prune(layer, granularity="unit", sparsity=0.5),
        explorer.Recipe().prune(layer, granularity="layer", sparsity=0.5),
    ):
        with pytest.raises(UnsupportedError, match="whose graph stays as it is"):
            explorer.resolve(subject, recipe)
    for name in criteria:
        entry = criteria[name]()
        why = entry.is_compatible(subject, layer)
        if entry.needs & {"gradients", "activations"} and entry.of_weights:
            assert why is not None and "ONNX Runtime computes no gradients" in why, name
        elif entry.of_weights and why is None:
            assert explorer.importance(subject, name)[layer].shape == subject.layer(layer).shape, name
    assert all(sites(subject).values())
    with pytest.raises(explorer.ExportError, match="PyTorch cannot run"):
        explorer.export(subject, HALF, tmp_path / "out", formats=["pt2"])
    runner = engine(subject, torch.device("cpu")).runner
    assert runner.tier == "full" and "as a whole" in str(runner.reason)


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


def test_without_data_the_file_is_still_pruned_and_written(tmp_path: Path) -> None:
    from explorer.files.save import compressed_graph

    subject = explorer.load(files.saved(files.exported("gru"), tmp_path / "m.onnx"))
    data = compressed_graph(subject, HALF)
    again = subject_of(files.saved(onnx.load_from_string(data), tmp_path / "p.onnx"), "gru")
    assert explorer.evaluate(again).sparsity == pytest.approx(0.5, abs=0.01)
    assert compressed_graph(torch_of("gru"), HALF) is None


def test_a_copy_shares_the_session_and_the_original_is_not_touched(tmp_path: Path) -> None:
    subject = subject_of(files.saved(files.exported("mlp"), tmp_path / "m.onnx"), "mlp")
    before = subject.digest
    module = explorer.compress(subject, HALF)
    assert isinstance(module, OnnxModule) and module.graph is subject.module.graph
    explorer.evaluate(subject, HALF)
    assert subject.digest == before and not torch.equal(module.get_parameter("0.weight"), subject.weight("0.weight"))
