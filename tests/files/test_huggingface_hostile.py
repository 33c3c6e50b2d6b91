"""Hugging Face folders and zips made to run code, to take memory, or to read other files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.core.errors import ExplorerError, LoadError
from explorer.files.limits import STRANGERS
from explorer.files.load import open_model

pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers")

from tests.files import tiny_hf  # noqa: E402


def refuse(folder: Path, said: str, kind: type[Exception] = LoadError) -> None:
    """By folder and by zip: one error that says so, and nothing else."""
    for path in (folder, tiny_hf.zipped(folder)):
        with pytest.raises(kind, match=said) as caught:
            open_model(path, STRANGERS)
        assert isinstance(caught.value, ExplorerError)


def change(folder: Path, name: str = "config.json", **values: Any) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")


CODE = "import pathlib; pathlib.Path('canary').touch()\n"
HOSTILE = {
    "code in the config": ({"auto_map": {"AutoModel": "modeling_x.MyModel"}}, "auto_map"),
    "code of another repository": ({"auto_map": {"AutoConfig": "someone/else--x.C"}}, "auto_map"),
    "code deeper in the config": ({"text_config": {"auto_map": {"AutoModel": "x.M"}}}, "auto_map"),
    "too many layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000"),
    "too many labels": ({"num_labels": 10**9}, "num_labels"),
    "a huge number": ({"hidden_size": 10**30}, "refused"), "too wide": ({"hidden_size": 1 << 20}, "config.json"), "a huge vocabulary": ({"vocab_size": 1 << 36}, "config.json"),
    "negative": ({"hidden_size": -16}, "config.json"), "another width": ({"hidden_size": 32}, "do not fit"), "a text for a number": ({"num_hidden_layers": "two"}, "config.json"),
    "an unknown activation": ({"hidden_act": "__import__('os')"}, "config.json"), "another head": ({"architectures": ["BertForMaskedLM"]}, "needs cls"),
    "nested too deeply": ({"x": json.loads("[" * 200 + "]" * 200)}, "nested"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_configs(case: str, canary: Path, tmp_path: Path, no_network: None) -> None:
    folder = tmp_path / "in"
    tiny_hf.bert(folder)
    for name in ("modeling_x.py", "x.py", "tokenization_x.py"):
        (folder / name).write_text(CODE, encoding="utf-8")
    change(folder, **HOSTILE[case][0])
    refuse(folder, HOSTILE[case][1])


def test_kernels_and_attention_of_a_hub_are_not_asked_for(canary: Path, tmp_path: Path, no_network: None) -> None:
    tiny_hf.bert(tmp_path / "in")
    evil = "kernels-community/flash-attn"
    change(
        tmp_path / "in",
        _attn_implementation=evil,
        attn_implementation=evil,
        use_kernels=True,
        _name_or_path="someone/else",
        torch_dtype="bfloat16",
    )
    module = open_model(tmp_path / "in", STRANGERS).module
    assert module.config._attn_implementation == "eager" and next(module.parameters()).dtype == torch.float32


def test_hostile_tokenizers(canary: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    tiny_hf.bert(folder)
    (folder / "tokenization_x.py").write_text(CODE, encoding="utf-8")
    change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.T", None]})
    refuse(folder, "code of its own")
    change(folder, "tokenizer_config.json", auto_map=None)
    refuse(folder, "code of its own")
    whole = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    del whole["auto_map"]
    (folder / "tokenizer_config.json").write_text(
        json.dumps(whole | {"tokenizer_class": "x.T", "chat_template": "{{ ''.__class__ }}"}), encoding="utf-8"
    )
    assert open_model(folder, STRANGERS).forward  # a class and a template are names that nobody looks up
    good = (folder / "tokenizer.json").read_text(encoding="utf-8")
    for bad in (
        "[" * 300 + "]" * 300,
        "{}",
        "[]",
        "nothing",
        good[: len(good) // 2],
        good.replace("WordPiece", "Python"),
        '{"model": {"type": "BPE", "vocab": {}, "merges": ["x"]}}',
    ):
        (folder / "tokenizer.json").write_text(bad, encoding="utf-8")
        refuse(folder, "tokenizer")


def test_hostile_weights(canary: Path, tmp_path: Path) -> None:
    from tests.files import hostile

    folder = tmp_path / "in"
    model = tiny_hf.bert(folder)
    (folder / "model.safetensors").unlink()
    for evil in (
        hostile.torch_zip(dict(model.state_dict()) | {"evil": hostile.Runs(exec, hostile.CODE)}),
        hostile.torch_zip({"evil": hostile.Runs(__import__("os").system, "touch canary")}),
    ):
        (folder / "pytorch_model.bin").write_bytes(evil)
        refuse(folder, "pickled object|safe reader")
    (folder / "pytorch_model.bin").unlink()
    for name in ("../model.safetensors", "/etc/passwd", "absent.safetensors", "pytorch_model.bin"):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}), encoding="utf-8")
        refuse(folder, "shard")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("tokenizer.json", "tokenizer_config.json")]


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "in.zip", *SLOW])
def test_files_cut_short_at_every_percent(name: str, canary: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    model = tiny_hf.bert(folder)
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / name)
    path = tiny_hf.zipped(folder) if name == "in.zip" else folder / name
    whole = path.read_bytes()
    assert open_model(path if name == "in.zip" else folder, STRANGERS).forward
    for percent in range(100):
        path.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(LoadError, match=r"\bin\b"):
            open_model(path if name == "in.zip" else folder, STRANGERS)


def test_links_and_members_that_lead_out(canary: Path, tmp_path: Path) -> None:
    import zipfile

    folder = tmp_path / "a" / "b" / "in"
    folder.mkdir(parents=True)
    tiny_hf.bert(folder)
    (tmp_path / "secret.json").write_text("{}", encoding="utf-8")
    (folder / "special_tokens_map.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(LoadError, match="is a link"):
        open_model(folder, STRANGERS)
    (folder / "special_tokens_map.json").unlink()
    path = tiny_hf.zipped(folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../canary", "x")
    with pytest.raises(LoadError, match="leads out"):
        open_model(path, STRANGERS)


@pytest.mark.slow
def test_a_shared_server_opens_the_zip_in_a_child_first(
    canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from explorer.files.load import load_upload

    folder = tmp_path / "in"
    tiny_hf.bert(folder)
    monkeypatch.setenv("EXPLORER_SHARED", "1")
    assert load_upload(tiny_hf.zipped(folder)).card["forward"]
