"""Hugging Face models made here from a config: in by folder and zip, judged, cut, and out again as their own library reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import explorer
from explorer.core.errors import TaskError
from explorer.files.data import Source
from explorer.files.sanity import check

pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers")

from tests.files import tiny_hf  # noqa: E402
from tests.files.tiny_hf import LABELS, judged, labelled  # noqa: E402


@pytest.mark.parametrize("form", ["folder", "zip", "zip without a folder", "shards", "bin"])
def test_a_classifier_comes_in_every_form(form: str, tmp_path: Path, device: str, no_network: None) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "bert"
    model = tiny_hf.bert(folder, shard="6KB" if form == "shards" else None)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if form == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert (folder / "model.safetensors.index.json").exists() == (form == "shards")
    path = tiny_hf.zipped(folder, "" if "without" in form else "model/") if "zip" in form else folder
    subject = judged(explorer.load(path), labelled(), device)
    assert subject.card["format"] == "Hugging Face" and subject.card["forward"] and not subject.card["notes"]
    assert (
        subject.task.kind == "classification"
        and subject.task.classes == tuple(LABELS)
        and subject.task.display == "text"
    )
    data, source = subject.task.dataset("validation"), labelled()
    texts = {subject.task.decode(pair[0]): int(pair[1]) for pair in (data[i] for i in range(len(data)))}
    right = 0
    with torch.no_grad():
        for text, label in texts.items():
            plain = text.replace("[CLS] ", "").replace(" [SEP]", "")
            answer = model.cpu()(
                **tokenizer([plain], return_tensors="pt")
            ).logits  # as its own library reads and runs it, unpadded
            right += int(answer.argmax()) == label
            assert LABELS[label] == source.columns["label"][source.columns["text"].tolist().index(plain)]
    assert len(texts) == 30
    assert explorer.evaluate(subject, device=device).metrics["accuracy"] == pytest.approx(right / 30)


@pytest.mark.parametrize("files", ["tokenizer.json", "vocab"])
@pytest.mark.parametrize("make", [tiny_hf.bert, tiny_hf.gpt2], ids=["bert", "gpt2"])
def test_texts_become_what_their_own_tokenizer_makes(make: Any, files: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    make(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    if files == "vocab":
        (tmp_path / "tokenizer.json").unlink()
    reader = explorer.load(tmp_path).card["reader"]
    texts = [*tiny_hf.texts(20), "the unknown word", "The CAT sats", "a" * 5 + " big " * 30]
    found = reader.read(texts, 12)
    for i, text in enumerate(texts):
        wanted = reference(text, truncation=True, max_length=12)["input_ids"]
        assert found["input_ids"][i][found["attention_mask"][i].bool()].tolist() == wanted
        assert int(found["attention_mask"][i].sum()) == len(wanted) and found["input_ids"].shape == (len(texts), 12)
    for length in (0, reader.longest + 1):
        with pytest.raises(TaskError, match="accepted: 1 to"):
            reader.read(texts, length)


def test_bert_loses_heads_neurons_and_width(tmp_path: Path, device: str) -> None:
    tiny_hf.bert(tmp_path)
    subject = judged(explorer.load(tmp_path), labelled(), device)
    found = {(group.kind, group.units) for group in subject.groups}
    assert found == {("width", 16), ("head", 4), ("neuron", 32), ("neuron", 16)} and len(subject.groups) == 6
    assert "output" in subject.structure.refused["classifier.weight"]
    recipe = (
        explorer.Recipe()
        .prune("*self.query*", granularity="unit", sparsity=0.5)
        .prune("*intermediate*", granularity="unit", sparsity=0.5)
    )
    smaller = explorer.compress(subject, recipe)
    assert smaller.bert.encoder.layer[0].attention.self.query.weight.shape == (8, 16)
    with torch.no_grad():
        got = smaller(**subject.example(3)).logits
    assert got.shape == (3, 3)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (subject.module, smaller))
    assert explorer.evaluate(subject, recipe, device=device).parameters == after < before
    quantized = explorer.Recipe().prune("*", sparsity=0.5).quantize("*", bits=8)
    assert 0.4 < explorer.evaluate(subject, quantized, device=device).sparsity < 0.6


def test_gpt2_is_judged_by_the_next_token(tmp_path: Path, device: str, no_network: None) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "gpt"
    model = tiny_hf.gpt2(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    source = Source("text", {"text": np.asarray(tiny_hf.texts(40))})
    for path in (folder, tiny_hf.zipped(folder)):
        subject = judged(explorer.load(path), source, device)
        assert subject.task.kind == "language_model" and "Conv1D" in subject.card["notes"][0]
        total = tokens = 0.0
        data = subject.task.dataset("validation")
        with torch.no_grad():
            for i in range(len(data)):
                ids = tokenizer([subject.task.decode(data[i][0])], return_tensors="pt")["input_ids"]
                total += float(model.cpu()(ids, labels=ids).loss) * (ids.shape[1] - 1)
                tokens += ids.shape[1] - 1
        assert explorer.evaluate(subject, device=device).metrics["cross_entropy"] == pytest.approx(
            total / tokens, rel=1e-5
        )
    assert "no better than guessing" in check(subject, device).hints[0]  # its weights are random
    assert {(g.kind, g.units) for g in subject.groups} == {("width", 16), ("head", 4), ("neuron", 64)} and len(
        subject.groups
    ) == 5
    tied = [
        name
        for name, p in subject.module.named_parameters(remove_duplicate=False)
        if p is subject.module.lm_head.weight
    ]
    assert len(tied) == 2 and "lm_head.weight" not in {layer.name for layer in subject.layers}
    smaller = explorer.compress(subject, explorer.Recipe().prune("*.attn.*", granularity="unit", sparsity=0.5))
    assert smaller.transformer.h[0].attn.split_size == 8


@pytest.mark.parametrize("make", [tiny_hf.bert, tiny_hf.gpt2], ids=["bert", "gpt2"])
def test_an_export_is_read_by_its_own_library_and_comes_back(
    make: Any, tmp_path: Path, device: str, no_network: None
) -> None:
    import transformers

    name = type(make(tmp_path / "in")).__name__
    subject = judged(explorer.load(tmp_path / "in"), labelled(), device)
    recipe = explorer.Recipe().prune("*", sparsity=0.5).quantize("*", bits=8)
    formats = ["safetensors", "onnx"] if make is tiny_hf.bert else ["safetensors"]
    bundle = explorer.export(subject, recipe, tmp_path / "out", formats=formats, device=device)
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= set(bundle.files)
    assert bundle.checks.get("model.onnx", 0) < 1e-4 and ("model.onnx" in bundle.files) == (make is tiny_hf.bert)
    theirs, info = getattr(transformers, name).from_pretrained(
        bundle.folder, output_loading_info=True, local_files_only=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    expected = explorer.evaluate(subject, recipe, device=device).metrics
    x = {k: v.cpu() for k, v in subject.example(4).items()}
    with torch.no_grad():
        ours = explorer.compress(subject, recipe).cpu()(**x).logits
        torch.testing.assert_close(theirs.eval()(**x).logits[x["attention_mask"].bool()] if ours.ndim == 3 else theirs.eval()(**x).logits,
                                   ours[x["attention_mask"].bool()] if ours.ndim == 3 else ours, rtol=1e-5, atol=1e-5)  # fmt: skip
    for path in (bundle.folder, bundle.zip_path):
        again = judged(explorer.load(path), labelled(), device)
        assert explorer.evaluate(again, device=device).metrics == pytest.approx(expected, rel=1e-5)
    units = explorer.Recipe().prune("*", granularity="unit", sparsity=0.5)
    cut = explorer.export(subject, units, tmp_path / "cut", formats=["safetensors"], device=device)
    assert "config.json" not in cut.files and any("which units are gone" in note for note in cut.notes)
    assert explorer.load(cut.folder).card["forward"] is False
