"""The training script: reproducible from its seed, selected by validation, answers in the target's unit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sample_models import SAMPLES, build, data
from sample_models.datasets import Split
from sample_models.scores import score
from sample_models.train import SETTINGS, augment, main, rank, target_scale, train, unscaled


def test_every_sample_has_settings(device: str) -> None:
    assert SETTINGS.keys() == SAMPLES.keys()


def test_same_seed_same_weights(device: str) -> None:
    settings = replace(SETTINGS["vowels-rnn"], epochs=2)
    first, second = (train("vowels-rnn", settings)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = train("vowels-rnn", replace(settings, seed=1))[0].state_dict()
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_training_lowers_the_loss(device: str) -> None:
    before = score(build("vowels-rnn"), data("vowels-rnn").splits["validation"], "classification")
    module, kept, seconds = train("vowels-rnn", replace(SETTINGS["vowels-rnn"], epochs=10))
    after = score(module, data("vowels-rnn").splits["validation"], "classification")
    assert after["cross_entropy"] < before["cross_entropy"] - 0.2
    assert 1 <= kept <= 10 and seconds > 0 and not module.training


def test_script_writes_weights_and_card(tmp_path: Path, device: str) -> None:
    main(["bikes-mlp", "--epochs", "1", "--out", str(tmp_path / "wieder 再")])
    weights = load_file(tmp_path / "wieder 再" / "weights" / "bikes-mlp.safetensors")
    module = build("bikes-mlp")
    module.load_state_dict(weights, strict=True)
    card = json.loads((tmp_path / "wieder 再" / "cards" / "bikes-mlp.json").read_text(encoding="utf-8"))
    seen = score(module, data("bikes-mlp").splits["test"], "regression")
    assert card["training"]["epochs"] == 1
    assert seen == pytest.approx(card["scores"]["test"], rel=1e-4)


def test_unknown_sample_is_refused(capsys: pytest.CaptureFixture[str], device: str) -> None:
    with pytest.raises(SystemExit) as error:
        main(["fashion-mpl"])
    assert error.value.code == 2 and "invalid choice" in capsys.readouterr().err


def test_scale_is_folded_into_the_head(device: str) -> None:
    module, split = build("bikes-mlp").eval(), data("bikes-mlp").splits["train"]
    mean, std = target_scale("regression", split)
    x = split.batch(torch.arange(9))[0]
    with torch.no_grad():
        wanted = module(x) * std + mean
        assert (unscaled(module, "regression", mean, std)(x) - wanted).abs().max() < 1e-3
        assert torch.equal(unscaled(module, "classification", mean, std)(x), module(x))


def test_rank_prefers_the_main_metric_then_the_lower_loss(device: str) -> None:
    a, b = {"accuracy": 0.9, "cross_entropy": 0.5}, {"accuracy": 0.9, "cross_entropy": 0.4}
    assert rank(b, "classification") > rank(a, "classification")
    assert rank({"cross_entropy": 1.4}, "language_model") > rank({"cross_entropy": 1.5}, "language_model")


def test_augment_keeps_shape_and_range_and_moves_pixels(device: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 1, 28, 28)
    seen = augment(x)
    assert seen.shape == x.shape and 0 <= seen.min() and seen.max() <= 1
    assert not torch.equal(seen, x)


class Line(nn.Module):
    """Answers 2 x + 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x + 1


def test_regression_scores_by_hand(device: str) -> None:
    x = torch.arange(4.0).unsqueeze(1)
    seen = score(Line(), Split(x, torch.tensor([[1.0], [3.0], [5.0], [9.0]])), "regression", chunk=3)
    assert seen == pytest.approx({"n": 4, "r2": 1 - 4 / 35, "rmse": 1.0, "mae": 0.5})


def test_language_model_scores_by_hand(device: str) -> None:
    """Uniform logits over 4 tokens: perplexity 4, whatever the targets are."""
    split = Split(torch.zeros(3, 5, 4), torch.zeros(3, 5, dtype=torch.long))
    seen = score(nn.Identity(), split, "language_model", chunk=2)
    assert seen["perplexity"] == pytest.approx(4.0, rel=1e-5)
    assert (seen["n"], seen["tokens"], seen["next_token_accuracy"]) == (3, 15, 1.0)
