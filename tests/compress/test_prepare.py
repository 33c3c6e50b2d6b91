from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.compress.apply import compress, effective_weights
from explorer.compress.calibrate import chosen_samples
from explorer.compress.resolve import resolve
from explorer.core.errors import Cancelled, RecipeError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate
from explorer.models.chains import Chain, chains
from explorer.models.task import to_device
from explorer.models.trial import difference
from tests.contract.nets import MLP, batch, few, randomize, tiny


class Mixed(nn.Module):
    """Convolutions with and without a bias, a depthwise one, BatchNorm with and without parameters, flattened maps."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.n1 = nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.c2, self.n2 = nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6, affine=False)
        self.c3 = nn.Conv2d(6, 5, 1)
        self.fc1, self.fc2 = nn.Linear(5 * 4, 7), nn.Linear(7, 3)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.n1(self.c1(x)))
        x = F.max_pool2d(F.leaky_relu(self.n2(self.c2(x)), 0.2), 2)
        x = torch.flatten(F.relu(self.c3(x)), 1)
        return self.fc2(self.act(self.fc1(x)))


def mixed(device: str = "cpu"):  # type: ignore[no-untyped-def]
    module = Mixed()
    module.n2 = nn.BatchNorm2d(6)
    randomize(module)
    plain = nn.BatchNorm2d(6, affine=False)
    plain.running_mean, plain.running_var = module.n2.running_mean, module.n2.running_var
    module.n2 = plain
    return tiny(module, (2, 8, 8), device)


def outputs(subject, recipe: Recipe, dtype: torch.dtype = torch.float32) -> Tensor:  # type: ignore[no-untyped-def]
    x = subject.example(16)
    return compress(subject, recipe).to(dtype)(x.to(dtype) if x.is_floating_point() else x).detach()  # type: ignore[no-any-return]


def test_chains_by_hand(device: str) -> None:
    assert chains(mixed(device)) == (
        Chain("c1.weight", "n1", "c2.weight", 0), Chain("c2.weight", "n2", "c3.weight", 1), Chain("c3.weight", None, "fc1.weight", 1, 4),
        Chain("fc1.weight", None, "fc2.weight", 1, 1),
    )  # fmt: skip


@pytest.mark.parametrize("step", ["fold", "equalize"])
def test_the_function_stays_the_same(step: str, device: str) -> None:
    subject = mixed(device)
    recipe = Recipe().prepare(step)  # type: ignore[arg-type]
    plan = resolve(subject, recipe)
    assert plan.layers and plan.tensors
    plain, after = outputs(subject, Recipe()), outputs(subject, recipe)
    assert difference(plain, after) <= 1e-5
    for more in (
        Recipe().prune("*", sparsity=0.4),
        Recipe().prune("*", sparsity=0.4, granularity="unit"),
        Recipe().prune("c3", threshold=0.3, mode="shrink"),
    ):
        both = Recipe((*more.rules, *recipe.rules))
        assert difference(outputs(subject, more), outputs(subject, both)) <= 1e-5
    report = evaluate(subject, recipe, device=device)
    assert report.metrics == pytest.approx(evaluate(subject, device=device).metrics, abs=1e-4)
    assert not resolve(subject, recipe.clear("*", kind="prepare")).layers


@pytest.mark.parametrize("name", ["fashion-mlp", "fashion-lenet5", "fashion-resnet", "bikes-mlp"])
def test_samples_stay_the_same(name: str, device: str) -> None:
    subject = few(name, device=device)
    for step in ("fold", "equalize") if name == "fashion-resnet" else ("equalize",):
        assert difference(outputs(subject, Recipe()), outputs(subject, Recipe().prepare(step))) <= 1e-5  # type: ignore[arg-type]


def test_folded_norms_do_nothing_but_shift(device: str) -> None:
    subject = mixed(device)
    module = compress(subject, Recipe().prepare("fold"))
    x = torch.randn(4, 6, 5, 5).to(device)
    for norm in (module.n1, module.n2):
        shift = norm(torch.zeros(1, 6, 1, 1, device=device))
        assert torch.allclose(norm(x), x + shift, atol=1e-5)
    a = subject.module.n1.weight / (subject.module.n1.running_var + 1e-5).sqrt()
    assert torch.allclose(module.c1.weight, subject.module.c1.weight * a.view(-1, 1, 1, 1))


def test_ranges_meet_after_equalization(device: str) -> None:
    plan = resolve(mixed(device), Recipe().prepare("equalize"))
    weights = effective_weights(mixed(device), plan)
    for chain in chains(mixed(device)):
        first, second = weights[chain.producer].detach(), weights[str(chain.consumer)].detach()
        mine = first.flatten(1).abs().amax(1)
        theirs = second.movedim(chain.dim, 0).flatten(1).abs().amax(1).view(-1, chain.width).amax(1)
        assert torch.allclose(mine, theirs, rtol=0.02)


def test_equalization_helps_channels_of_very_different_reach(device: str) -> None:
    """Nagel et al.'s case: one scale a tensor, and channels that differ by orders of magnitude."""
    torch.manual_seed(1)
    subject = tiny(MLP((6, 16, 16, 3)), device=device)
    with torch.no_grad():
        s = torch.logspace(-2, 2, 16).to(device)
        subject.module.fc[0].weight *= s[:, None]
        subject.module.fc[0].bias *= s
        subject.module.fc[1].weight /= s
    coarse = Recipe().quantize("*", bits=5)
    reference = outputs(subject, Recipe())
    without, with_it = (difference(reference, outputs(subject, r)) for r in (coarse, coarse.prepare("equalize")))
    assert with_it < 0.5 * without


def test_bias_correction_takes_the_mean_error_off(device: str) -> None:
    subject = mixed(device)
    x = subject.task.batch("train", chosen_samples(subject, 128))[0].to(device)
    for layer in ("c1", "c2", "fc1"):
        seen: dict[str, Tensor] = {}
        for name, recipe in {
            "exact": Recipe(),
            "rounded": Recipe().quantize(layer, bits=2),
            "corrected": Recipe().quantize(layer, bits=2).prepare("bias-correction", layer),
        }.items():
            module = compress(subject, recipe)
            last = (
                module.n1 if layer == "c1" else module.get_submodule(layer)
            )  # c1 has no bias: its norm takes the shift
            last.register_forward_hook(
                lambda m, i, o, name=name, seen=seen: seen.__setitem__(
                    name, o.detach().movedim(1, -1).flatten(0, -2).mean(0)
                )
            )
            module(x)
        scale = float(seen["exact"].abs().max())
        assert torch.allclose(seen["corrected"], seen["exact"], atol=1e-5 * max(1, scale)), layer
        assert not torch.allclose(seen["rounded"], seen["exact"], atol=1e-2 * scale), layer


@pytest.mark.parametrize("bits", [2, 4])
def test_bias_correction_goes_from_input_to_output(bits: int, device: str) -> None:
    """Nagel et al. 2019, appendix D, by plain loops: layer after layer, its mean output in the rounded model, in which all in front
    are corrected, less that in the original; a pass each."""
    subject = mixed(device)
    recipe = Recipe().quantize("*", bits=bits)
    plan = resolve(subject, recipe.prepare("bias-correction"))
    x = subject.task.batch("train", chosen_samples(subject, 128))[0].to(device)

    def mean(module: nn.Module, name: str) -> Tensor:
        seen: list[Tensor] = []
        hook = module.get_submodule(name).register_forward_hook(lambda m, i, o: seen.append(o.detach()))
        with torch.no_grad():
            module(x)
        hook.remove()
        return seen[0].movedim(1, -1).flatten(0, -2).mean(0)

    module = compress(subject, recipe)
    for name in ("c1", "c2", "c3", "fc1", "fc2"):
        shift = mean(module, name) - mean(subject.module.eval(), name)
        owner: object = module.get_submodule(name)
        if name == "c1":
            module.n1.running_mean += shift
            wrong = plan.tensors["n1.running_mean"] - module.n1.running_mean
        else:
            owner.bias.data -= shift  # type: ignore[attr-defined]
            wrong = plan.tensors[f"{name}.bias"] - owner.bias  # type: ignore[attr-defined]
        assert shift.abs().max() > 1e-4 and wrong.abs().max() < 1e-5 * max(1, float(shift.abs().max())), name
    corrected = compress(subject, recipe.prepare("bias-correction"))
    for name in ("c2", "c3", "fc1", "fc2"):  # so every mean is the original's
        assert torch.allclose(mean(corrected, name), mean(subject.module.eval(), name), atol=1e-4), name


def test_a_layer_that_runs_twice_is_corrected_by_its_own_error(device: str) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.same(F.relu(self.same(x))))

    torch.manual_seed(0)
    subject = tiny(Twice(), device=device)
    recipe = Recipe().quantize("*", bits=3).prepare("bias-correction")
    told: list[tuple[int, int]] = []
    plan = resolve(subject, recipe, progress=lambda *at: told.append(at))
    x = subject.task.batch("train", chosen_samples(subject, 128))[0].to(device)
    same = subject.module.same
    with torch.no_grad():
        both = torch.cat([x, F.relu(same(x))]).mean(0)
        error = (effective_weights(subject, plan)["same.weight"] - same.weight) @ both
        assert torch.allclose(plan.tensors["same.bias"], same.bias - error, atol=1e-5)
        module = compress(subject, recipe)
        assert torch.allclose(module(x).mean(0), subject.module(x).mean(0), atol=1e-5)  # the head runs once
    assert told == sorted(told) and told[-1] == (192, 192)
    with pytest.raises(Cancelled):
        resolve(subject, recipe.quantize("head", bits=4), cancel=lambda: True)


def test_bias_correction_of_recurrent_layers(device: str) -> None:
    """b_ih by the mean of the inputs, b_hh by that of the hidden states, over all steps of the calibration samples."""
    subject = few("vowels-rnn", device=device)
    recipe = Recipe().quantize("rnn", bits=3).prepare("bias-correction")
    plan = resolve(subject, recipe)
    rnn = subject.module.rnn
    seen: list[tuple[Tensor, Tensor]] = []
    hook = rnn.register_forward_hook(lambda m, i, o: seen.append((i[0], o[0])))
    x = to_device(subject.task.batch("train", chosen_samples(subject, 128))[0], device)
    with torch.no_grad():
        subject.task.forward(subject.module.eval(), x)
    hook.remove()
    data = getattr(seen[0][0], "data", seen[0][0])
    delta = {name: effective_weights(subject, plan)[name] - subject.weight(name) for name in plan.codes}
    moved = plan.tensors["rnn.bias_ih_l0"] - rnn.bias_ih_l0.detach()
    assert (
        torch.allclose(moved, -delta["rnn.weight_ih_l0"] @ data.flatten(0, -2).mean(0), atol=1e-5)
        and moved.abs().max() > 1e-3
    )
    assert {name.rpartition(".")[2].split("_l")[0] for name in plan.tensors} == {"bias_ih", "bias_hh"}
    assert plan.digest != resolve(subject, Recipe().quantize("rnn", bits=3)).digest


def test_all_three_with_units_gone_and_activations_rounded(device: str) -> None:
    subject = few("fashion-resnet", device=device)
    recipe = (
        Recipe()
        .prune("b1.conv1", granularity="unit", sparsity=0.5)
        .quantize("*", bits=4)
        .quantize("*", bits=8, what="activation")
    )
    recipe = recipe.prepare("fold").prepare("equalize").prepare("bias-correction")
    module, report = compress(subject, recipe), evaluate(subject, recipe, device=device)
    x, y = batch(subject, report.total)
    accuracy = float((module(x).argmax(1) == y).float().mean())
    assert report.metrics["accuracy"] == pytest.approx(accuracy, abs=1.1 / report.total)
    assert Recipe.from_json(recipe.to_json()) == recipe and "prepare('equalize', '*')" in recipe.to_python()


@pytest.mark.parametrize(
    ("step", "message"),
    [("fold", "nothing to fold"), ("equalize", "nothing to equalize"), ("melt", "fold, equalize, bias-correction")],
)
def test_nothing_to_do_is_said(step: str, message: str, device: str) -> None:
    with pytest.raises(RecipeError, match=message):
        resolve(few("vowels-lstm", device=device), Recipe().prepare(step))  # type: ignore[arg-type]


@pytest.mark.parametrize("step", ["fold", "equalize"])
def test_weights_that_are_computed_are_no_part_of_a_chain(step: str, device: str) -> None:
    """A parametrized weight is made anew at each use, so there is nothing that a factor could be multiplied into."""
    made = nn.utils.parametrizations.weight_norm(nn.Linear(6, 8))
    subject = tiny(nn.Sequential(made, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), device=device)
    with pytest.raises(RecipeError, match="nothing to"):
        resolve(subject, Recipe().prepare(step))  # type: ignore[arg-type]
    assert resolve(subject, Recipe().quantize("*", bits=4).prepare("bias-correction")).tensors
