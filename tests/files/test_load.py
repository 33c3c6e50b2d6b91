"""Every way in, on real files: the same weights and the same figures come back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.utils.data import TensorDataset

import explorer
from explorer.core.errors import LoadError, TaskError
from explorer.export.files import REASON_KEY
from tests.contract.nets import SAMPLES, CharLM, few


def _equal(module: nn.Module, other: nn.Module) -> bool:
    a, b = module.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name].cpu(), b[name].cpu()) for name in a)


@pytest.mark.parametrize(
    "name",
    [name if name in ("bikes-mlp", "vowels-rnn") else pytest.param(name, marks=pytest.mark.slow) for name in SAMPLES],
)
def test_a_packed_export_restores_every_bit(name: str, tmp_path: Path, device: str) -> None:
    subject = few(name, 32, device)
    recipe = explorer.Recipe().prune("*", sparsity=0.5).quantize("*", bits=4)
    bundle = explorer.export(subject, recipe, tmp_path / "out", formats=["packed"], device=device)
    module = explorer.compress(subject, recipe)
    expected = explorer.evaluate(subject, recipe, device=device).metrics
    for path in (bundle.folder, bundle.folder / "model.packed", bundle.zip_path):
        again = explorer.load(path, subject.task)
        stored = again.module.state_dict()
        assert stored and all(torch.equal(stored[name], tensor.cpu()) for name, tensor in module.state_dict().items())
        assert {layer.name for layer in again.layers} == {layer.name for layer in subject.layers}
        assert again.card["forward"] is True
    assert explorer.evaluate(again, device=device).metrics == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_packed_weights_alone_and_packed_bombs(net: nn.Module, tmp_path: Path) -> None:
    from dataclasses import replace

    from explorer.export.packing.container import dumps
    from explorer.files.limits import STRANGERS
    from explorer.files.load import open_model

    path = tmp_path / "model.packed"
    path.write_bytes(dumps(_plain(net), {REASON_KEY: "it loops"}, {}))
    subject = explorer.load(path)
    assert any("it loops" in note for note in subject.card["notes"]) and torch.equal(
        subject.weight("fc.weight"), _plain(net)["fc.weight"]
    )
    for cut in range(0, path.stat().st_size, 97):
        (tmp_path / "cut.packed").write_bytes(path.read_bytes()[:cut])
        with pytest.raises(LoadError, match=r"cut\.packed"):
            open_model(tmp_path / "cut.packed", STRANGERS)
    with pytest.raises(LoadError, match="accepted: at most 3"):
        open_model(path, replace(STRANGERS, tensors=3))
    path.write_bytes(dumps({"a": torch.zeros(20_000, 1000)}, {}, {}))
    assert path.stat().st_size < 10_000
    with pytest.raises(LoadError, match="would unpack to 80,000,000 bytes"):
        open_model(path, STRANGERS)
    path.write_bytes(dumps({"a": torch.zeros(3000, 1000)}, {}, {}))
    open_model(path, STRANGERS)
    with pytest.raises(LoadError, match="at most 10,485,760"):
        open_model(path, replace(STRANGERS, file=10 << 20))


def _plain(net: nn.Module) -> dict[str, object]:
    return {name: tensor.cpu() for name, tensor in net.state_dict().items()}


WAYS = {
    "plain": lambda sd: sd,
    "module.": lambda sd: {f"module.{k}": v for k, v in sd.items()},
    "compiled": lambda sd: {f"_orig_mod.{k}": v for k, v in sd.items()},
    "both": lambda sd: {f"module._orig_mod.{k}": v for k, v in sd.items()},
    "state_dict": lambda sd: {"state_dict": sd, "epoch": 3, "arch": "net"},
    "lightning": lambda sd: {"state_dict": {f"model.{k}": v for k, v in sd.items()}, "hyper_parameters": {"lr": 0.1}},
    "model": lambda sd: {
        "model": sd,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}, "param_groups": [{"lr": 0.1}]},
    },
    "nested twice": lambda sd: {"model": {"state_dict": sd}},
    "numbers beside": lambda sd: sd | {"step": 5},
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("way", WAYS)
def test_state_dicts_in_every_shape(way: str, old: bool, net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(WAYS[way](_plain(net)), path, _use_new_zipfile_serialization=not old)
    subject = explorer.load(path)
    assert {k: v.tolist() for k, v in subject.module.state_dict().items()} == {
        k: v.tolist() for k, v in _plain(net).items()
    }
    assert [layer.name for layer in subject.layers] == ["conv.weight", "fc.weight"]
    assert not [n for n, _ in subject.module.named_parameters() if "running" in n]


def test_everything_that_needs_no_forward_pass_works_on_weights_alone(net: nn.Module, tmp_path: Path) -> None:
    from explorer.analysis.histogram import histogram
    from explorer.evaluate.costs import counts

    path = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in _plain(net).items()}, path)
    subject = explorer.load(path)
    recipe = explorer.Recipe().prune("*", sparsity=0.5, scope="global").quantize("fc", bits=4)
    plan = explorer.resolve(subject, recipe)
    found = counts(subject, plan)
    pruned = sum(int((~mask).sum()) for mask in plan.masks.values())
    assert pruned == round(0.5 * sum(layer.numel for layer in subject.layers))
    assert found.macs is None and "weights only" in found.macs_reason
    assert histogram(subject, "fc.weight").entries == 192
    module = explorer.compress(subject, recipe)
    assert int((module.get_parameter("fc.weight") == 0).sum()) >= int((~plan.masks["fc.weight"]).sum())
    assert torch.equal(subject.module.get_parameter("fc.weight"), _plain(net)["fc.weight"])
    for needs in (lambda: explorer.evaluate(subject), lambda: subject.example(1)):
        with pytest.raises(TaskError, match=r"weights only.*Task\.agreement"):
            needs()
    with pytest.raises(explorer.UnsupportedError, match="train"):
        explorer.importance(subject, "taylor")
    assert "weights only" in str(subject.structure.refused["fc.weight"])


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2], ids=str
)
def test_weights_of_every_floating_type(dtype: torch.dtype, tmp_path: Path) -> None:
    from explorer.analysis.histogram import histogram
    from explorer.evaluate.costs import counts

    weight = torch.randn(16, 8).to(dtype)
    save_file({"a.weight": weight, "a.count": torch.arange(3)}, tmp_path / "w.safetensors")
    subject = explorer.load(tmp_path / "w.safetensors")
    assert torch.equal(subject.weight("a.weight").double(), weight.double())
    plan = explorer.resolve(subject, explorer.Recipe().prune("a", sparsity=0.25).quantize("a", bits=4))
    assert int((~plan.masks["a.weight"]).sum()) == 32 and counts(subject, plan).bytes > 0
    assert histogram(subject, "a.weight").entries == 128


def test_tied_weights_are_one_layer(tmp_path: Path) -> None:
    net = CharLM(tie=True)
    torch.save(net.state_dict(), tmp_path / "tied.pt")
    save_model(net, str(tmp_path / "tied.safetensors"))
    for name in ("tied.pt", "tied.safetensors"):
        subject = explorer.load(tmp_path / name)
        both = (subject.module.get_parameter("embedding.weight"), subject.module.get_parameter("head.weight"))
        assert both[0] is both[1] and torch.equal(both[0], net.embedding.weight)
        assert sum(layer.numel for layer in subject.layers) == sum(p.numel() for p in net.parameters() if p.ndim > 1)


def test_sharded_checkpoints(net: nn.Module, tmp_path: Path) -> None:
    parts = [
        {k: v for k, v in _plain(net).items() if k.startswith("fc")},
        {k: v for k, v in _plain(net).items() if not k.startswith("fc")},
    ]
    places = {}
    for i, part in enumerate(parts):
        save_file(part, tmp_path / f"model-{i}.safetensors")
        places |= dict.fromkeys(part, f"model-{i}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    assert {layer.name for layer in explorer.load(tmp_path).layers} == {"conv.weight", "fc.weight"}
    assert {layer.name for layer in explorer.load(index).layers} == {"conv.weight", "fc.weight"}


def test_an_export_of_weights_alone_says_why(net: nn.Module, tmp_path: Path) -> None:
    save_file({k: v for k, v in _plain(net).items()}, tmp_path / "model.safetensors", {REASON_KEY: "it loops"})
    assert any("it loops" in note for note in explorer.load(tmp_path).card["notes"])


def test_a_task_for_weights_alone_says_how_to_add_the_class(net: nn.Module, tmp_path: Path) -> None:
    torch.save(_plain(net), tmp_path / "a.pt")
    with pytest.raises(LoadError, match=r"explorer\.Subject\(module, task\)"):
        explorer.load(tmp_path / "a.pt", explorer.Task.agreement(torch.randn(3, 1, 6, 6)))


def test_a_name_that_is_neither_sample_nor_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="did you mean fashion-lenet5"):
        explorer.load("fashion-lenet6")
    with pytest.raises(LoadError, match="no such file"):
        explorer.load(tmp_path / "nothing.pt")
    assert explorer.load("bikes-mlp") is explorer.load("bikes-mlp")


def test_a_shared_server_opens_no_paths(net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(_plain(net), tmp_path / "a.pt")
    monkeypatch.setenv("EXPLORER_SHARED", "1")
    with pytest.raises(LoadError, match="shared server"):
        explorer.load(tmp_path / "a.pt")
    assert explorer.load("bikes-mlp").name == "bikes-mlp"


def test_the_file_may_go_once_it_was_read(net: nn.Module, tmp_path: Path) -> None:
    folder = tmp_path / "upload"
    folder.mkdir()
    torch.save(_plain(net), folder / "a.pt")
    subject = explorer.load(folder / "a.pt")
    shutil.rmtree(folder)
    assert torch.equal(subject.weight("fc.weight"), _plain(net)["fc.weight"])


def test_classification_of_a_loaded_export_with_own_data(net: nn.Module, tmp_path: Path, device: str) -> None:
    data = TensorDataset(torch.randn(20, 1, 6, 6), torch.randint(0, 3, (20,)))
    subject = explorer.Subject(net, explorer.Task.classification(train=data, validation=data), "mine")
    explorer.export(subject, explorer.Recipe(), tmp_path / "out", formats=["safetensors"], device=device)
    again = explorer.load(tmp_path / "out", subject.task)
    assert explorer.evaluate(again, device=device).metrics == pytest.approx(
        explorer.evaluate(subject, device=device).metrics
    )
    assert [g.name for g in again.groups] == [g.name for g in subject.groups]


def test_saving_weights_leaves_a_whole_file_or_none(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from explorer.compress import bitmask
    from explorer.files.save import compressed_weights, save_weights

    save_file({k: v.contiguous() for k, v in _plain(net).items()}, tmp_path / "a.safetensors")
    recipe = explorer.Recipe().prune("*", sparsity=0.5).quantize("fc", bits=8)
    expected = compressed_weights(explorer.load(tmp_path / "a.safetensors"), recipe)
    monkeypatch.setattr(bitmask, "LARGE", 1)  # masks packed to bits, tensors in parts
    monkeypatch.setattr(bitmask, "BLOCK", 64)
    subject, told = explorer.load(tmp_path / "a.safetensors"), []
    with pytest.raises(explorer.Cancelled):
        save_weights(
            subject,
            recipe,
            tmp_path / "b.safetensors",
            cancel=lambda: len(told) > 1,
            progress=lambda *one: told.append(one),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"] and len(told) == 2
    save_weights(subject, recipe, tmp_path / "b.safetensors", progress=lambda *one: told.append(one))
    assert (tmp_path / "b.safetensors").read_bytes() == expected and told[-1][0] == told[-1][1]
    for path in (tmp_path / "b.safetensors", tmp_path / "nowhere" / "c.safetensors"):
        with pytest.raises(explorer.ExportError, match="accepted: a new file"):
            save_weights(subject, recipe, path)

    def refused(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for what in ("open", "is_dir"):  # a folder that may be looked into, and one that may not
        with monkeypatch.context() as patch:
            patch.setattr(Path, what, refused)
            with pytest.raises(explorer.ExportError, match=r"c\.safetensors: cannot be written; accepted: a new file in a folder that you may .*Permission"):
                save_weights(subject, recipe, tmp_path / "c.safetensors")


def test_compressed_weights_come_back(net: nn.Module, tmp_path: Path) -> None:
    from explorer.files.save import compressed_weights

    tied = CharLM(tie=True)
    for module in (net, tied):
        torch.save({k: v.cpu() for k, v in module.state_dict().items()}, tmp_path / "a.pt")
        subject = explorer.load(tmp_path / "a.pt")
        recipe = explorer.Recipe(name="半").prune("*", sparsity=0.5).quantize("*", bits=4)
        (tmp_path / "b.safetensors").write_bytes(compressed_weights(subject, recipe))
        again, expected = explorer.load(tmp_path / "b.safetensors"), explorer.compress(subject, recipe)
        assert again.module.state_dict().keys() == expected.state_dict().keys()
        assert all(torch.equal(t, expected.state_dict()[name]) for name, t in again.module.state_dict().items())
        assert sum(p.numel() for p in again.module.parameters()) == sum(p.numel() for p in subject.module.parameters())
        with pytest.raises(explorer.ExportError, match="weights only"):
            explorer.export(subject, recipe, tmp_path / "out")
