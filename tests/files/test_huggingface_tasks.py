"""What a Hugging Face model is judged by, what it takes, and which families run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import explorer
from explorer.core.errors import LoadError, TaskError
from explorer.files.data import Source

pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers")

from tests.files import tiny_hf  # noqa: E402
from tests.files.tiny_hf import LABELS, judged, labelled  # noqa: E402


def test_a_class_for_each_word(tmp_path: Path, device: str) -> None:
    tiny_hf.bert(tmp_path, "TokenClassification")
    texts = [*tiny_hf.texts(20), "cats dog"]
    tags = [" ".join(LABELS[(i + j) % 3] for j in range(len(text.split()))) for i, text in enumerate(texts)]
    source = Source("table", {"text": np.asarray(texts), "tags": np.asarray(tags)})
    subject = judged(explorer.load(tmp_path), source, device)
    report = explorer.evaluate(subject, device=device)
    assert report.main == "token_accuracy" and 0 <= report.metrics["token_accuracy"] < 1
    data = subject.task.dataset("validation")
    right = total = 0
    with torch.no_grad():
        for i in range(len(data)):
            inputs, targets = data[i]
            answer = subject.module(**{k: v[None].to(device) for k, v in inputs.items()}).logits[0].argmax(-1).cpu()
            counted = targets != -100
            right += int((answer == targets)[counted].sum())
            total += int(counted.sum())
            words = subject.task.decode(inputs).replace("[CLS] ", "").replace(" [SEP]", "").split()
            assert int(counted.sum()) == len(words)
    assert report.metrics["token_accuracy"] == pytest.approx(right / total)
    inputs, targets = subject.card["reader"].read_words([["cats", "dog"]], [[2, 1]], 8)
    assert targets.tolist() == [[-100, 2, -100, 1, -100, -100, -100, -100]]  # [CLS] cat ##s dog [SEP]
    for wrong, said in (("bad", "1 tags"), ("bad odd", "accepted: bad, fair, good")):
        with pytest.raises(TaskError, match=said):
            judged(
                subject, Source("table", {"text": np.asarray(["the cat"] * 4), "tags": np.asarray([wrong] * 4)}), device
            )


@pytest.mark.parametrize("head", ["", "MaskedLM"], ids=["encoder", "masked"])
def test_without_labels_there_is_agreement_that_ignores_padding(head: str, tmp_path: Path, device: str) -> None:
    tiny_hf.bert(tmp_path, head)
    source = Source("text", {"text": np.asarray(tiny_hf.texts(24))})
    short, long = (judged(explorer.load(tmp_path), source, device, length=length) for length in (16, 24))
    assert short.task.kind == "agreement" and explorer.evaluate(short, device=device).metrics["agreement"] == 1
    recipe = explorer.Recipe().prune("*", sparsity=0.6)
    found = [explorer.evaluate(s, recipe, device=device).metrics for s in (short, long)]
    assert found[0]["agreement"] < 1 and found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-6)


def test_token_indices_need_no_tokenizer(tmp_path: Path, device: str) -> None:
    tiny_hf.bert(tmp_path)
    source = labelled()
    with_it = judged(explorer.load(tmp_path), source, device)
    ids = explorer.load(tmp_path).card["reader"].read(list(source.columns["text"]), 16)["input_ids"]
    for name in ("tokenizer.json", "vocab.txt"):
        (tmp_path / name).unlink()
    bare = explorer.load(tmp_path)
    assert any("save_pretrained" in note for note in bare.card["notes"])
    with pytest.raises(TaskError, match="without a tokenizer"):
        judged(bare, source, device)
    arrays = Source("arrays", {"input_ids": ids.numpy(), "y": np.asarray([i % 3 for i in range(60)])})
    same = judged(bare, arrays, device)
    assert explorer.evaluate(same, device=device).metrics == pytest.approx(
        explorer.evaluate(with_it, device=device).metrics, rel=1e-5
    )


def test_a_task_of_ones_own_takes_the_logits(tmp_path: Path, device: str) -> None:
    model = tiny_hf.bert(tmp_path)
    reader = explorer.load(tmp_path).card["reader"]
    inputs = reader.read(tiny_hf.texts(12), 12)
    data = [({k: v[i] for k, v in inputs.items()}, i % 3) for i in range(12)]
    subject = explorer.Subject(model.to(device), explorer.Task.classification(validation=data))
    again = explorer.load(tmp_path, explorer.Task.classification(validation=data))
    assert explorer.evaluate(subject, device=device).metrics == pytest.approx(
        explorer.evaluate(again, device=device).metrics, rel=1e-5
    )


def test_without_the_library_weights_and_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_hf.bert(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("explorer.files.hf_model.installed", lambda: False)
    subject = explorer.load(tmp_path)
    assert (
        not subject.card["forward"]
        and "pip install transformers" in subject.card["notes"][0]
        and len(subject.layers) > 10
    )
    with pytest.raises(LoadError, match="pip install transformers"):
        explorer.load(tmp_path, explorer.Task.agreement(torch.zeros(3, 4, dtype=torch.int64)))


def test_half_precision_is_evaluated_in_float32(tmp_path: Path) -> None:
    model = tiny_hf.bert(tmp_path).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    subject = explorer.load(tmp_path)
    assert "bfloat16" in subject.card["notes"][0]
    assert torch.equal(subject.weight("classifier.weight"), model.classifier.weight.detach().float())


FAMILIES = {
    "albert": ("ForSequenceClassification", {"embedding_size": 8}), "distilbert": ("ForSequenceClassification", {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 4}),
    "electra": ("ForTokenClassification", {"embedding_size": 16}), "roberta": ("ForMaskedLM", {"max_position_embeddings": 36}), "mpnet": ("Model", {"max_position_embeddings": 36}),
    "modernbert": ("ForSequenceClassification", {}), "opt": ("ForCausalLM", {"ffn_dim": 32, "word_embed_proj_dim": 16}), "gpt_neox": ("ForCausalLM", {}),
    "gpt_neo": ("ForCausalLM", {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4}), "llama": ("ForCausalLM", {"num_key_value_heads": 2}),
    "mistral": ("ForCausalLM", {"num_key_value_heads": 2}), "qwen2": ("ForCausalLM", {"num_key_value_heads": 2}), "qwen3": ("ForCausalLM", {"num_key_value_heads": 2, "head_dim": 4}),
    "phi": ("ForCausalLM", {}), "smollm3": ("ForCausalLM", {"num_key_value_heads": 2}), "camembert": ("ForTokenClassification", {"max_position_embeddings": 36}), "xlm-roberta": ("ForSequenceClassification", {"max_position_embeddings": 36}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_that_runs(family: str, tmp_path: Path, device: str) -> None:
    import transformers
    from transformers import AutoConfig

    from explorer.files.hf_model import FAMILIES as known

    assert known == {*FAMILIES, "bert", "gpt2"}
    head, more = FAMILIES[family]
    sizes = tiny_hf.BERT | {
        "pad_token_id": 1 if "max_position_embeddings" in more else 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "num_labels": 3,
        "global_attn_every_n_layers": 1,
    }
    config = AutoConfig.for_model(family, **sizes | more)
    torch.manual_seed(0)
    prefix = {k: v for k, v in transformers.models.auto.modeling_auto.MODEL_MAPPING_NAMES.items()}[family].removesuffix(
        "Model"
    )
    model = getattr(transformers, prefix + head)(config).eval()
    tiny_hf.spread(model)
    model.save_pretrained(tmp_path)
    tiny_hf.word_pieces(tmp_path)
    subject = judged(explorer.load(tmp_path), labelled(), device, kind="agreement", target=None)
    x = subject.example(4)
    with torch.no_grad():
        here, there = (m(**{k: v.cpu() for k, v in x.items()})[0] for m in (subject.module.cpu(), model))
    used = x["attention_mask"].bool().cpu()
    pairs = (here[used], there[used]) if here.ndim == 3 else (here, there)
    torch.testing.assert_close(*pairs, rtol=1e-4, atol=1e-4)
    subject = judged(subject, labelled(), device, kind="agreement", target=None)
    assert explorer.evaluate(subject, device=device).metrics["agreement"] == 1
    assert subject.groups or subject.structure.refused
    report = explorer.evaluate(subject, explorer.Recipe().prune("*", sparsity=0.5).quantize("*", bits=4), device=device)
    assert report.metrics["kl"] > 0
