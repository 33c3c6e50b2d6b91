from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import explorer
from explorer.compress.apply import compress
from explorer.compress.calibrate import calibrate, chosen_samples
from explorer.compress.observers import observers, registry
from explorer.compress.plan import Plan
from explorer.compress.resolve import resolve
from explorer.compress.statistics import Statistics
from explorer.core.errors import Cancelled, EvaluationError, RecipeError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate
from explorer.models.subject import Subject
from explorer.models.task import Task
from tests.contract.nets import MLP, SAMPLES, CharLM, batch, classification, few, language, tiny

ALL8 = Recipe().quantize("*", bits=8, what="activation")


def q(x: Tensor, codes: object) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, codes.scale, codes.zero_point, codes.low, codes.high)  # type: ignore[attr-defined]


def test_an_mlp_by_hand(device: str) -> None:
    subject = tiny(MLP().to(device))
    recipe = Recipe().prune("fc.1", sparsity=0.5).quantize("*", bits=4).quantize("*", bits=5, what="activation")
    plan = resolve(subject, recipe)
    x = subject.example(64)
    hidden = x
    for i in range(3):
        name = f"fc.{i}.weight"
        layer = subject.module.fc[i]
        exact = F.linear(q(hidden, plan.inputs[name]), plan.layers[name].apply(layer.weight.detach()), layer.bias)
        hidden = exact if i == 2 else F.relu(exact)
    module = compress(subject, recipe)
    assert torch.equal(module(x), hidden)
    assert [type(m) for m in module.modules() if isinstance(m, nn.Linear)] != [nn.Linear] * 3
    assert all(isinstance(module.fc[i], nn.Linear) for i in range(3))
    names = dict(subject.module.named_parameters())
    assert {n: p.shape for n, p in module.named_parameters()} == {n: p.shape for n, p in names.items()}
    assert all(
        torch.equal(a, b)
        for a, b in zip(subject.module.parameters(), tiny().module.to(device).parameters(), strict=True)
    )


def test_ranges_are_those_of_the_compressed_model_on_train_samples(device: str) -> None:
    subject = tiny(device=device)
    recipe = (
        Recipe()
        .prune("fc.0", sparsity=0.7)
        .quantize("fc.0", bits=3)
        .quantize("*", bits=8, what="activation", samples=20)
    )
    plan = resolve(subject, recipe)
    x = subject.task.batch("train", chosen_samples(subject, 20))[0].to(device)
    module = compress(subject, plan.without_inputs())
    for name in plan.inputs:
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        codes = plan.inputs[name]
        assert float(codes.scale) == pytest.approx((high - low) / 255) and int(codes.zero_point) == round(
            -low / ((high - low) / 255)
        )
        x = F.relu(module.fc[int(name[3])](x)).detach()
    symmetric = resolve(subject, Recipe().quantize("fc.1", bits=8, what="activation", scheme="symmetric")).inputs[
        "fc.1.weight"
    ]
    assert (symmetric.low, symmetric.high, int(symmetric.zero_point)) == (-127, 127, 0)


def test_the_clip_overrides_the_observer_and_needs_no_train_split(device: str) -> None:
    data = TensorDataset(torch.randn(20, 6), torch.randint(0, 3, (20,)))
    subject = Subject(MLP().to(device), Task.classification(validation=data), "bare")
    codes = resolve(subject, Recipe().quantize("fc.0", bits=8, what="activation", clip=(-1, 2))).inputs["fc.0.weight"]
    assert float(codes.scale) == pytest.approx(3 / 255) and int(codes.zero_point) == 85
    with pytest.raises(RecipeError, match="calibrated on the train split.*clip="):
        resolve(subject, ALL8)
    drained = Subject(MLP().to(device), Task.classification(train=(rows := [data[0]]), validation=data), "drained")
    rows.clear()
    with pytest.raises(RecipeError, match="none or it is empty"):
        resolve(drained, ALL8)


def test_calibration_is_seeded_kept_and_can_be_cancelled(device: str) -> None:
    subject = tiny(device=device)
    assert (
        chosen_samples(subject, 10) == chosen_samples(tiny(device=device), 10)
        and len(set(chosen_samples(subject, 1000))) == 64
    )
    calls: list[tuple[int, int]] = []
    resolve(subject, ALL8, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (128, 128) and [a for a, _ in calls] == sorted(a for a, _ in calls)
    calls.clear()
    resolve(
        subject,
        ALL8.quantize("fc.0", bits=4, what="activation", quantizer="entropy"),
        progress=lambda *a: calls.append(a),
    )
    assert not calls, "the same weights were calibrated already"
    with pytest.raises(Cancelled, match="calibration cancelled"):
        resolve(subject, ALL8.prune("fc.0", sparsity=0.5), cancel=lambda: True)
    assert resolve(subject, ALL8.prune("fc.0", sparsity=0.5)).inputs


def test_equal_ranges_share_a_plan_and_others_do_not(device: str) -> None:
    subject = tiny(device=device)
    one, other = resolve(subject, ALL8), resolve(subject, ALL8.named("again"))
    assert one.digest == other.digest != resolve(subject, Recipe()).digest == one.without_inputs().digest
    assert resolve(subject, ALL8.quantize("fc.2", bits=8, what="activation", clip=(0, 1))).digest != one.digest
    assert resolve(subject, ALL8.keep("fc.2")).inputs.keys() == {"fc.0.weight", "fc.1.weight"}
    assert not resolve(subject, ALL8.clear("*", kind="activation-quantize")).inputs


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_computes_what_its_compressed_module_does(name: str, bits: int, device: str) -> None:
    """The evaluator's simulation and the module agree on every prediction, and few bits hurt."""
    subject = few(name, device=device)
    recipe = Recipe().quantize("*", bits=bits, what="activation", samples=32)
    plan = resolve(subject, recipe)
    reachable = [layer.name for layer in subject.layers if layer.kind not in ("embedding", "other")]
    assert sorted(plan.inputs) == sorted(reachable)
    report, base = evaluate(subject, recipe, device=device), evaluate(subject, device=device)
    inputs, targets = batch(subject, report.total)
    with torch.inference_mode():
        out = compress(subject, recipe)(*(inputs if isinstance(inputs, (tuple, list)) else (inputs,)))
    loss = float(subject.task.loss(out, targets))
    assert report.metrics.get("loss", report.metrics.get("cross_entropy")) == pytest.approx(loss, rel=2e-3)
    worse = report.metrics["loss"] - base.metrics["loss"]
    assert abs(worse) > 0.02 if bits == 2 else abs(worse) < 0.05 * max(1, base.metrics["loss"])


def test_units_go_and_activations_are_rounded_by_the_ranges_of_what_is_left(device: str) -> None:
    subject = few("vowels-lstm", device=device)
    recipe = ALL8.prune("*", granularity="unit", sparsity=0.4).quantize("*", bits=8, granularity="channel")
    plan = resolve(subject, recipe)
    module = compress(subject, recipe)
    assert sum(p.numel() for p in module.parameters()) < sum(p.numel() for p in subject.module.parameters())
    own = {n.split(".input_quantizers.")[1]: b for n, b in module.named_buffers() if n.endswith(".scale")}
    assert any(torch.equal(b, plan.inputs["lstm.weight_hh_l0"].scale) for n, b in own.items() if "weight_hh_l0" in n)
    assert copy.deepcopy(module)(subject.example(3)).shape[0] == 3


def test_what_cannot_be_rounded_says_why(device: str) -> None:
    subject = Subject(CharLM().to(device), language(), "lm")
    with pytest.raises(
        RecipeError, match="embedding.weight: its input cannot be quantized: an embedding reads indices"
    ):
        resolve(subject, Recipe().quantize("embedding", bits=8, what="activation"))
    assert sorted(resolve(subject, ALL8).inputs) == ["head.weight", "lstm.weight_hh_l0", "lstm.weight_ih_l0"]
    tied = Subject(CharLM(tie=True).to(device), language(), "tied")
    assert "embedding.weight" in resolve(tied, ALL8).inputs  # the head's product

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(3, 6))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.matrix.T

    with pytest.raises(RecipeError, match="what a Own multiplies by it cannot be told"):
        resolve(tiny(Own(), device=device), Recipe().quantize("matrix", bits=8, what="activation"))
    with pytest.raises(RecipeError, match="unknown observer 'minmx'; did you mean minmax"):
        resolve(tiny(device=device), Recipe().quantize("fc.0", bits=8, what="activation", quantizer="minmx"))


def test_activations_that_are_not_finite(device: str) -> None:
    subject = tiny(device=device)
    with torch.no_grad():
        subject.module.fc[0].bias[0] = math.inf
    with pytest.raises(EvaluationError, match="fc.1.weight: what enters it holds NaN or infinity"):
        resolve(subject, ALL8)


def statistics(*batches: Tensor) -> Statistics:
    seen = Statistics("fc")
    for one in batches:
        seen.see(one)
        seen.end_batch()
    for one in batches:
        seen.count(one)
    return seen


@pytest.mark.parametrize("name", observers())
@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
def test_what_every_observer_holds(name: str, scheme: str, device: str) -> None:
    assert len(registry.help(name)) > 200 and "Source: " in registry.help(name) and registry[name].title
    x = (torch.randn(40, 100).relu() ** 2).to(device)
    for seen in (
        statistics(*x.split(16)),
        statistics(-x),
        statistics(torch.zeros(5, device=device)),
        statistics(torch.full((4,), 2.5, device=device)),
    ):
        low, high = registry[name]().range(seen, 4, scheme)
        reach = max(-seen.low, seen.high)
        assert math.isfinite(low) and low <= high and -reach - 1e-6 <= low and high <= reach + 1e-6
    low, high = registry[name]().range(statistics(*x.split(16)), 8, scheme)
    assert 0.2 * float(x.max()) < high <= float(x.max()) * 1.000001


def test_observers_against_references(device: str) -> None:
    from torch.ao.quantization import MovingAverageMinMaxObserver

    x = torch.cat([torch.randn(96, 2000), torch.randn(32, 2000) * 2]).to(device)
    seen = statistics(*x.split(16))
    assert registry["minmax"]().range(seen, 8, "affine") == (float(x.min()), float(x.max()))
    other = MovingAverageMinMaxObserver(averaging_constant=0.1).to(device)
    for one in x.split(16):
        other(one)
    assert registry["moving-average"]().range(seen, 8, "affine") == pytest.approx(
        (float(other.min_val), float(other.max_val)), rel=1e-5
    )
    step = (seen.high - seen.low) / 2048
    found = registry["percentile"]().range(seen, 8, "affine")
    assert found == pytest.approx(np.quantile(x.cpu().numpy(), [0.00005, 0.99995]).tolist(), abs=4 * step)
    assert registry["percentile"]().range(seen, 8, "symmetric")[1] == pytest.approx(
        np.quantile(x.abs().cpu().numpy(), 0.9999), abs=4 * step
    )
    rare = torch.cat([torch.randn(20_000), torch.tensor([60.0])]).to(device)
    assert registry["entropy"]().range(statistics(rare), 8, "affine")[1] < 30, "one outlier must not set the range"


def test_quantization_error_of_weights_and_activations(device: str) -> None:
    subject = tiny(device=device)
    recipe = ALL8.quantize("fc.1", bits=4)
    table = explorer.quantization_error(subject, recipe, samples=64)
    assert list(table.columns) == ["layer", "what", "bits", "sqnr_db", "mse"] and len(table) == 4
    row = table[(table.layer == "fc.1.weight") & (table.what == "weight")].iloc[0]
    plan = resolve(subject, recipe)
    weight = subject.weight("fc.1.weight").cpu().double()
    noise = (plan.layers["fc.1.weight"].apply(subject.weight("fc.1.weight")).cpu().double() - weight).square()
    assert row.bits == 4 and row.mse == pytest.approx(float(noise.mean()))
    assert row.sqnr_db == pytest.approx(10 * math.log10(float(weight.square().sum() / noise.sum())))
    x = subject.task.batch("train", chosen_samples(subject, 64))[0].to(device)
    first = table[(table.layer == "fc.0.weight")].iloc[0]
    noise = (q(x, plan.inputs["fc.0.weight"]) - x).cpu().double().square()
    assert first.what == "activation" and first.mse == pytest.approx(float(noise.mean()), rel=1e-6)
    coarse = explorer.quantization_error(subject, Recipe().quantize("*", bits=3, what="activation"))
    assert (coarse.sqnr_db < table[table.what == "activation"].sqnr_db.values - 15).all()  # about 6 dB a bit
    assert explorer.quantization_error(subject, Recipe()).empty


def test_calibration_sees_the_model_of_the_plan(device: str) -> None:
    subject = tiny(device=device)
    seen = calibrate(subject, Plan({}, {}), 64)
    x = subject.task.batch("train", chosen_samples(subject, 64))[0].to(device)
    assert seen["fc.0.weight"].low == float(x.min()) and seen["fc.0.weight"].n == x.numel() == int(
        seen["fc.0.weight"].counts.sum()
    )
    hidden = F.relu(subject.module.fc[0](x))
    assert seen["fc.1.weight"].zeros == int((hidden == 0).sum()) and classification((6,)).splits
