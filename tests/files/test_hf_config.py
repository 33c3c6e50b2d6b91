"""Removed units in a Hugging Face config: written where its numbers say exactly that, and left out where they cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import explorer

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers")

from explorer.files.hf_config import fitting_config  # noqa: E402
from tests.files import tiny_hf  # noqa: E402
from tests.files.tiny_hf import judged, labelled  # noqa: E402


@pytest.mark.parametrize(
    ("make", "where", "said"), [pytest.param(tiny_hf.bert, "*intermediate*", {"intermediate_size": 16}, marks=pytest.mark.slow), (tiny_hf.gpt2, "*mlp*", {"n_inner": 32})], ids=["bert", "gpt2"]
)  # fmt: skip
def test_narrower_layers_are_loaded_by_their_own_library(
    make: Any, where: str, said: dict[str, int], tmp_path: Path, device: str, no_network: None
) -> None:
    name = type(make(tmp_path / "in")).__name__
    subject = judged(explorer.load(tmp_path / "in"), labelled(), device)
    recipe = explorer.Recipe().prune(where, granularity="unit", sparsity=0.5)
    bundle = explorer.export(subject, recipe, tmp_path / "out", formats=["safetensors"], device=device)
    config = json.loads((bundle.folder / "config.json").read_text(encoding="utf-8"))
    assert {field: config[field] for field in said} == said and any(
        "how many units are left" in note for note in bundle.notes
    )
    assert "from_pretrained" in (bundle.folder / "README.md").read_text(encoding="utf-8")
    theirs, info = getattr(transformers, name).from_pretrained(
        bundle.folder, output_loading_info=True, local_files_only=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    small, x = explorer.compress(subject, recipe).cpu(), {key: value.cpu() for key, value in subject.example(4).items()}
    with torch.no_grad():
        used = x["attention_mask"].bool() if name.startswith("GPT2") else slice(None)
        torch.testing.assert_close(theirs.eval()(**x).logits[used], small(**x).logits[used], rtol=1e-5, atol=1e-5)
    child = subject.derive(explorer.compress(subject, recipe), recipe)  # its own config described the larger model
    again = explorer.export(child, explorer.Recipe(), tmp_path / "child", formats=["safetensors"], device=device)
    assert json.loads((again.folder / "config.json").read_text(encoding="utf-8")) == config
    loaded = judged(explorer.load(again.folder), labelled(), device)
    assert explorer.evaluate(loaded, device=device).metrics == pytest.approx(
        explorer.evaluate(subject, recipe, device=device).metrics, rel=1e-4
    )


def test_what_a_config_cannot_say_is_left_out(tmp_path: Path, device: str) -> None:
    tiny_hf.bert(tmp_path / "in")
    subject = judged(explorer.load(tmp_path / "in"), labelled(), device)
    for i, where in enumerate(
        ("*layer.0.intermediate*", "*query*")
    ):  # one layer of two; heads, whose size follows from their number
        recipe = explorer.Recipe().prune(where, granularity="unit", sparsity=0.5)
        bundle = explorer.export(subject, recipe, tmp_path / str(i), formats=["safetensors"], device=device)
        text = (bundle.folder / "README.md").read_text(encoding="utf-8")
        assert (
            "config.json" not in bundle.files
            and "cannot say which units are gone" in text
            and "from_pretrained" not in text
        )


def test_heads_of_a_stated_size(device: str) -> None:
    """Two of four heads and one of two keys and values, in a family whose config holds the size of a head."""

    def llama(**more: int) -> tuple[dict[str, Any], Any]:
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            **{"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2} | more
        )  # fmt: skip
        return json.loads(config.to_json_string()) | {
            "architectures": ["LlamaForCausalLM"]
        }, transformers.LlamaForCausalLM(config).eval()

    whole, _ = llama()
    smaller, model = llama(num_attention_heads=2, num_key_value_heads=1, head_dim=4, intermediate_size=10)
    ids = torch.arange(10).view(2, 5)

    def run(module: Any) -> Any:
        return module.to(device)(input_ids=ids.to(device)).logits

    found = fitting_config(whole, model.state_dict(), model, run)
    fields = ("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size")
    assert found is not None and [found[name] for name in fields] == [smaller[name] for name in fields] == [2, 1, 4, 10]
    assert (
        fitting_config(whole, model.state_dict(), model, lambda module: run(module) + (module is model)) is None
    )  # other answers
