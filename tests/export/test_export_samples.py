"""Every sample, compressed, survives every format: in this process, in another one, in ONNX Runtime."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import explorer
import sample_models
from explorer.export.exporters import registry
from explorer.export.exporters.onnx import open_session
from tests.contract.nets import few
from tests.export.conftest import weights_kept

ROOT = Path(__file__).resolve().parents[2]
NAMES = tuple(sample_models.SAMPLES)
MATRIX = [
    pytest.param(name, kind, marks=() if kind == "all" and name not in ("moby-lstm", "surnames-gru", "fashion-vit") else pytest.mark.slow)
    for name in NAMES
    for kind in ("all", "original", "global", "bits", "units")
]


@pytest.mark.parametrize(("name", "kind"), MATRIX)
def test_bundle_equals_the_compressed_module(exported, subject_of, recipe_of, name: str, kind: str) -> None:
    bundle, subject = exported(name, kind), subject_of(name)
    assert bundle.checks["model.safetensors"] <= 1e-6 and bundle.checks["model.onnx"] <= 1e-4
    assert bundle.notes == ()
    module = explorer.compress(subject, recipe_of(subject, kind)).cpu()
    loaded = explorer.load_exported(bundle.folder)
    assert list(loaded.state_dict()) == list(module.state_dict())
    assert [p.shape for p in loaded.parameters()] == [p.shape for p in module.parameters()]
    assert not loaded.training and type(loaded).__name__ == "ExportedModel"
    session = open_session(bundle.folder / "model.onnx")
    first = "output" if subject.task.kind == "regression" else "logits"
    assert ([i.name for i in session.get_inputs()], session.get_outputs()[0].name) == (["input"], first)
    for n in (1, 7):  # 7: no size that the exporters tried
        x = subject.example(n).cpu()
        with torch.no_grad():
            expected = module(x)
            torch.testing.assert_close(loaded(x), expected, rtol=0, atol=0)
        found = torch.from_numpy(session.run(None, {"input": x.numpy()})[0])
        assert (found - expected).abs().max() <= 1e-4 * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("exporter", sorted(registry))
def test_every_registered_exporter_keeps_the_contract(
    exporter: str, subject_of, recipe_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, entry = subject_of("bikes-mlp"), registry[exporter]()
    plan = explorer.resolve(subject, recipe_of(subject, "all"))
    module = explorer.compress(subject, plan).cpu()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    written = entry.write(subject, plan, module, tmp_path)
    assert written.files[0] == entry.filename and {path.name for path in tmp_path.iterdir()} == set(written.files)
    assert entry.verify(subject, plan, module, tmp_path) <= entry.tolerance
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    monkeypatch.chdir(tmp_path)
    exec(compile(entry.usage(subject, module), "usage", "exec"), {})
    with torch.no_grad():
        next(module.parameters()).add_(1.0)  # a file of another model is told apart
    assert entry.verify(subject, plan, module, tmp_path) > entry.tolerance
    assert entry.title and "Source:" in registry.help(exporter)


def test_what_is_registered() -> None:
    assert explorer.exporters() == tuple(sorted(registry)) and {"onnx", "safetensors"} <= set(registry)


def test_a_fresh_process_without_the_sample_code_gives_the_same_outputs(exported, subject_of, tmp_path: Path) -> None:
    jobs = []
    for name in NAMES:
        x = subject_of(name).example(3).cpu()
        with torch.no_grad():
            y = explorer.load_exported(exported(name).folder)(x)
        np.save(tmp_path / f"{name}.x.npy", x.numpy())
        np.save(tmp_path / f"{name}.y.npy", y.numpy())
        jobs.append((name, str(exported(name).folder)))
    jobs.append((NAMES[0], str(exported(NAMES[0]).zip_path)))
    code = (
        "import sys, json, numpy, torch\n"
        "sys.modules['sample_models'] = None\n"
        "import explorer\n"
        "here, jobs = sys.argv[1], json.loads(sys.argv[2])\n"
        "for name, folder in jobs:\n"
        "    x, y = (torch.from_numpy(numpy.load(f'{here}/{name}.{k}.npy')) for k in 'xy')\n"
        "    with torch.no_grad():\n"
        "        gap = (explorer.load_exported(folder)(x) - y).abs().max().item()\n"
        "    assert gap <= 1e-6 * max(1, y.abs().max().item()), (name, gap)\n"
        "assert sys.modules['sample_models'] is None\n"
        "print(len(jobs))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), json.dumps(jobs)], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "10"


@pytest.mark.parametrize("name", NAMES)
def test_onnx_file_is_plain_dynamic_and_stripped(exported, name: str) -> None:
    path = exported(name).folder / "model.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not model.metadata_props and not model.graph.metadata_props and not model.doc_string
    assert all(not node.metadata_props and not node.doc_string for node in model.graph.node)
    raw = path.read_bytes()
    assert not any(word in raw for word in (b".py", b"stack_trace", str(ROOT).encode(), b"site-packages"))


@pytest.mark.parametrize(
    ("name", "op", "count"), [("vowels-rnn", "RNN", 2), ("vowels-lstm", "LSTM", 2), ("surnames-gru", "GRU", 1)]
)
def test_recurrent_layers_stay_operators(exported, name: str, op: str, count: int) -> None:
    model = onnx.load(exported(name).folder / "model.onnx")
    assert sum(node.op_type == op for node in model.graph.node) == count
    assert len(model.graph.node) < 90  # time is not unrolled


@pytest.mark.parametrize("name", NAMES)
def test_exporting_leaves_the_subject_alone(exported, subject_of, name: str) -> None:
    exported(name)  # looks, too, in the process that made it
    assert weights_kept(subject_of(name))


def test_a_module_that_was_changed_is_told_apart(device: str) -> None:
    subject = few("vowels-lstm", n=25, device=device)
    changed = explorer.Subject(copy.deepcopy(subject.module), subject.task, subject.name)
    assert weights_kept(changed)
    changed.module.lstm._flat_weights[0] = changed.module.lstm.weight_ih_l0.data
    assert not weights_kept(changed)
    changed = explorer.Subject(copy.deepcopy(subject.module), subject.task, subject.name)
    with torch.no_grad():
        changed.module.head.weight[0, 0] += 1
    assert not weights_kept(changed)
