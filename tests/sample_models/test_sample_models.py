"""The contract of every bundled sample model; a new row of the table is tested without writing a test."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

import sample_models
from sample_models import SAMPLES, build, card, data, weights_path
from sample_models.scores import MAIN, score

ROOT = Path(sample_models.__file__).resolve().parent.parent
NAMES = (
    "fashion-mlp",
    "fashion-lenet5",
    "fashion-resnet",
    "fashion-vit",
    "vowels-rnn",
    "vowels-lstm",
    "surnames-gru",
    "moby-lstm",
    "bikes-mlp",
)
REQUIRED = {  # the main metric on test that each sample is promised to reach
    "fashion-mlp": 0.88,
    "fashion-lenet5": 0.90,
    "fashion-resnet": 0.915,
    "fashion-vit": 0.86,
    "vowels-rnn": 0.85,
    "vowels-lstm": 0.92,
    "surnames-gru": 0.79,
    "bikes-mlp": 0.90,
}
SHAPES = {"moby-lstm": (64, 83), "surnames-gru": (16,), "bikes-mlp": (1,), "vowels-rnn": (9,), "vowels-lstm": (9,)}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def trained(name: str, device: str) -> nn.Module:
    module = build(name)
    module.load_state_dict(load_file(weights_path(name)), strict=True)
    return module.to(device).eval()


def inputs(name: str, device: str, n: int) -> Tensor:
    """The first inputs of the validation split, as a loader collates them."""
    split = data(name).splits["validation"]
    return default_collate([split[i][0] for i in range(n)]).to(device)


def test_table_is_in_order_and_read_only() -> None:
    assert tuple(SAMPLES) == NAMES
    assert {sample.task for sample in SAMPLES.values()} == {"classification", "regression", "language_model"}
    with pytest.raises(TypeError):
        SAMPLES["mine"] = SAMPLES["bikes-mlp"]  # type: ignore[index]
    with pytest.raises(KeyError):
        build("fashion-mlp2")


def test_import_needs_no_torch() -> None:
    code = "import sys, sample_models; print(sorted({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert (seen.returncode, seen.stdout.strip()) == (0, "[]"), seen.stderr


def test_output_shape_of_one_collated_sample(name: str, device: str) -> None:
    with torch.no_grad():
        assert trained(name, device)(inputs(name, device, 1)).shape == (1, *SHAPES.get(name, (10,)))


def test_a_sample_alone_equals_itself_in_a_batch(name: str, device: str) -> None:
    module, x = trained(name, device), inputs(name, device, 7)
    with torch.no_grad():
        together = module(x)
        alone = torch.cat([module(x[i : i + 1]) for i in range(7)])
    assert (together - alone).abs().max() <= 1e-5 * max(1.0, float(together.abs().max()))


def test_every_weight_is_float32_and_used(name: str, device: str) -> None:
    module, x = trained(name, device), inputs(name, device, 4)
    with torch.no_grad():
        base = module(x)
        for key, parameter in module.named_parameters():
            assert parameter.dtype == torch.float32
            if parameter.dim() < 2:
                continue
            kept = parameter.clone()
            parameter.zero_()
            assert not torch.equal(module(x), base), f"{key} set to zero changes nothing"
            parameter.copy_(kept)
        assert torch.equal(module(x), base)


def test_fx_trace_gives_the_same_outputs(name: str, device: str) -> None:
    module, x = trained(name, device), inputs(name, device, 5)
    with torch.no_grad():
        assert (torch.fx.symbolic_trace(module)(x) - module(x)).abs().max() <= 1e-5


def test_macs_can_be_counted_on_the_meta_device(name: str, device: str) -> None:
    x = inputs(name, device, 1)
    with FlopCounterMode(display=False) as counter:
        output = copy.deepcopy(trained(name, device)).to("meta")(x.to("meta"))
    assert output.shape[0] == 1 and output.is_meta
    assert counter.get_total_flops() // 2 >= 10_000


def test_lengths_are_taken_from_the_padding(device: str) -> None:
    """More padding changes nothing for the networks that read in one direction."""
    for name in ("vowels-rnn", "vowels-lstm"):
        module, x = trained(name, device), inputs(name, device, 8)
        with torch.no_grad():
            longer = module(torch.nn.functional.pad(x, (0, 0, 0, 11)))
            assert (longer - module(x)).abs().max() <= 1e-5


def test_validation_scores_are_those_on_the_card(name: str) -> None:
    stated, split = card(name)["scores"]["validation"], data(name).splits["validation"]
    seen = score(trained(name, "cpu"), split, SAMPLES[name].task)
    assert seen.keys() == stated.keys()
    assert seen["n"] == stated["n"] == len(split)
    for key in seen.keys() - {"n", "tokens"}:
        scale = abs(stated[key]) if key in ("rmse", "mae", "perplexity") else 1.0
        assert abs(seen[key] - stated[key]) <= max(1e-3, 1 / len(split)) * scale, key


def test_card_is_complete(name: str) -> None:
    facts, sample = card(name), SAMPLES[name]
    assert (facts["name"], facts["title"], facts["task"]) == (name, sample.title, sample.task)
    assert facts["parameters"] == sum(parameter.numel() for parameter in build(name).parameters())
    assert f"{facts['parameters']:,} parameters" in facts["architecture"]
    assert (ROOT / facts["file"]).is_file()
    assert facts["licence"].keys() == {"data", "weights"} and len(facts["data"]) > 20
    training = facts["training"]
    assert training["command"] == f"python -m sample_models.train {name}"
    assert training["seconds"] > 0 and 1 <= training["kept_epoch"] <= training["epochs"] and training["torch"]
    for key, split in data(name).splits.items():
        assert facts["scores"][key]["n"] == len(split)
        assert MAIN[sample.task] in facts["scores"][key]


def test_test_score_is_as_promised(name: str) -> None:
    scores = card(name)["scores"]["test"]
    if name == "moby-lstm":
        assert scores["perplexity"] <= 5.0
    else:
        assert scores[MAIN[SAMPLES[name].task]] >= REQUIRED[name]


def test_weights_are_small() -> None:
    assert sum(weights_path(name).stat().st_size for name in NAMES) < 8e6
    assert sum(file.stat().st_size for file in (ROOT / "sample_models" / "data").iterdir()) < 40e6
