"""A subject that came as an ONNX file: written into its own graph, and what that graph cannot do."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch.utils.data import TensorDataset

import explorer
from explorer.core.errors import UnsupportedError
from explorer.export import onnx_own
from explorer.export.exporters import registry
from explorer.models.onnx_module import OnnxModule
from tests.files import onnx_files as files
from tests.files.onnx_files import HALF, gap, subject_of, torch_of

pytestmark = pytest.mark.filterwarnings("ignore")


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
    assert any(node.op_type == "DequantizeLinear" for node in stored.graph.node) and "activations stay floats" in str(
        *bundle.notes
    )
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
