from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from explorer.compress.apply import compress, effective_weights
from explorer.compress.resolve import resolve
from explorer.core.errors import RecipeError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate
from explorer.models.subject import Subject
from tests.contract.nets import MLP, batch, few, tiny

FIRST, SECOND, THIRD = "fc.0.weight", "fc.1.weight", "fc.2.weight"


def weights(subject: Subject, recipe: Recipe) -> dict[str, Tensor]:
    return effective_weights(subject, resolve(subject, recipe))


def test_an_empty_recipe_plans_nothing(device: str) -> None:
    plan = resolve(tiny(device=device), Recipe())
    assert not plan.layers and not plan.masks and not plan.kept and not plan.codes


def test_masks_are_the_callers_own(device: str) -> None:
    subject, recipe = tiny(device=device), Recipe().prune("*", sparsity=0.5)
    before = evaluate(subject, recipe).sparsity
    for mask in resolve(subject, recipe).masks.values():
        mask.fill_(True)
    assert all((~mask).any() for mask in resolve(subject, recipe).masks.values())
    assert evaluate(subject, recipe).sparsity == before > 0.45


def test_the_last_matching_rule_of_a_kind_holds(device: str) -> None:
    subject = tiny(device=device)
    recipe = (
        Recipe().prune("*", sparsity=0.75).prune("fc.1", sparsity=0.25).quantize("fc.0", bits=8).quantize("*", bits=3)
    )
    plan = resolve(subject, recipe)
    assert {n: int((~m).sum()) for n, m in plan.masks.items()} == {FIRST: 36, SECOND: 10, THIRD: round(0.75 * 15)}
    assert {codes.bits for codes in plan.codes.values()} == {3}
    assert SECOND not in resolve(subject, recipe.clear("fc.1", kind="prune")).masks
    assert set(resolve(subject, recipe.keep("fc.1")).layers) == {FIRST, THIRD}


def test_a_global_scope_ranks_all_that_its_rule_holds_for(device: str) -> None:
    """A layer that a later rule took away is ranked apart."""
    subject = tiny(device=device)
    recipe = Recipe().prune("*", sparsity=0.5, scope="global").prune("fc.1", sparsity=0.9)
    plan = resolve(subject, recipe)
    pair = torch.cat([subject.weight(n).abs().flatten() for n in (FIRST, THIRD)])
    cut = pair.sort().values[round(0.5 * 63) - 1]
    for name in (FIRST, THIRD):
        assert torch.equal(plan.masks[name], subject.weight(name).abs() > cut)
    assert int((~plan.masks[SECOND]).sum()) == 36


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.99])
def test_scale_attenuates_by_its_factor(factor: float, device: str) -> None:
    subject = tiny(device=device)
    w = subject.weight(FIRST)
    found = weights(subject, Recipe().prune("fc.0", sparsity=0.5, mode="scale", factor=factor))[FIRST]
    small = w.abs() <= w.abs().flatten().sort().values[23]
    assert torch.equal(found, torch.where(small, w * factor, w)) and int(small.sum()) == 24


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.1, 0.25, 10.0])
def test_shrink_is_soft_thresholding(threshold: float, device: str) -> None:
    subject = tiny(device=device)
    w = subject.weight(FIRST)
    found = weights(subject, Recipe().prune("fc.0", threshold=threshold, mode="shrink"))[FIRST]
    expected = torch.sign(w) * (w.abs() - max(threshold, 0)).clamp(min=0)
    assert torch.allclose(found, expected, atol=1e-7)
    assert torch.equal(found == 0, w.abs() <= threshold)


def test_shrink_by_sparsity_zeroes_that_many(device: str) -> None:
    subject = tiny(device=device)
    w = subject.weight(FIRST)
    found = weights(subject, Recipe().prune("fc.0", sparsity=0.25, mode="shrink"))[FIRST]
    t = w.abs().flatten().sort().values[11]
    assert int((found == 0).sum()) == 12 and torch.allclose(found, F.softshrink(w, float(t)), atol=1e-7)
    unchanged = weights(subject, Recipe().prune("fc.0", sparsity=0.0, mode="shrink"))[FIRST]
    assert torch.equal(unchanged, w)


def test_global_shrink_has_one_threshold(device: str) -> None:
    """Also a layer of which nothing falls below it is shrunk by it."""
    subject = tiny(device=device)
    with torch.no_grad():
        subject.module.fc[2].weight.copy_(5 + torch.rand(3, 5))
    found = weights(subject, Recipe().prune("*", sparsity=0.4, scope="global", mode="shrink"))
    scores = torch.cat([subject.weight(n).abs().flatten() for n in (FIRST, SECOND, THIRD)])
    t = float(scores.sort().values[round(0.4 * len(scores)) - 1])
    for name in (FIRST, SECOND, THIRD):
        assert torch.allclose(found[name], F.softshrink(subject.weight(name), t), atol=1e-6), name


def test_sparsity_is_counted_over_blocks(device: str) -> None:
    subject = tiny(device=device)
    recipe = Recipe().prune("*", granularity="1x2", sparsity=0.5, scope="global")
    assert sum(int((~m).sum()) for m in resolve(subject, recipe).masks.values()) in range(
        49, 53
    )  # 26 blocks; some are narrow


def test_units_go_first_and_weights_are_cut_among_what_remains(device: str) -> None:
    subject = tiny(device=device)
    recipe = Recipe().prune("fc.0", sparsity=0.5, granularity="unit").prune("*", sparsity=0.5)
    plan = resolve(subject, recipe)
    kept = plan.kept["fc.0"]
    assert len(kept) == 4
    first, second = plan.masks[FIRST], plan.masks[SECOND]
    gone = [i for i in range(8) if i not in kept.tolist()]
    assert not first[gone].any() and not second[:, gone].any()
    assert int((~first[kept]).sum()) == 12 and int((~second[:, kept]).sum()) == 10
    module = compress(subject, recipe)
    assert int((module.fc[0].weight == 0).sum()) == 12 and module.fc[0].weight.shape == (4, 6)
    assert torch.equal(module.fc[0].weight, (subject.weight(FIRST) * first)[kept])
    scores = subject.weight(FIRST).abs()[kept]
    assert torch.equal(first[kept], scores > scores.flatten().sort().values[11])


def test_shrink_by_sparsity_looks_at_what_remains_only(device: str) -> None:
    """The removed columns hold the largest weights: they must not set the threshold."""
    subject = tiny(device=device)
    with torch.no_grad():
        subject.module.fc[0].weight[:4] *= 1e-3  # units 0 to 3 go ...
        subject.module.fc[1].weight[:, :4] = 100.0  # ... whose readers are large
    recipe = Recipe().prune("fc.0", sparsity=0.5, granularity="unit").prune("fc.1", sparsity=0.5, mode="shrink")
    assert resolve(subject, recipe).kept["fc.0"].tolist() == [4, 5, 6, 7]
    found = weights(subject, recipe)[SECOND][:, 4:]
    w = subject.weight(SECOND)[:, 4:]
    t = float(w.abs().flatten().sort().values[9])
    assert torch.allclose(found, F.softshrink(w, t), atol=1e-6) and int((found != 0).sum()) == 10


def test_patterns_hold_in_the_tensor_that_remains(device: str) -> None:
    """Hardware counts runs of four in what is stored, not in what once was."""
    subject = tiny(MLP((6, 24, 16, 3)), device=device)
    recipe = Recipe().prune("fc.0", sparsity=0.33, granularity="unit").prune("fc.1", granularity="2:4")
    module = compress(subject, recipe)
    assert module.fc[1].weight.shape == (16, 16)
    runs = (module.fc[1].weight != 0).view(16, 4, 4).sum(-1)
    assert (runs == 2).all(), runs
    kept = resolve(subject, recipe).kept["fc.0"]
    original = subject.weight(SECOND)[:, kept].view(16, 4, 4)
    for row, run in ((0, 0), (5, 3), (15, 2)):
        best = original[row, run].abs().topk(2).indices
        assert set(module.fc[1].weight.view(16, 4, 4)[row, run].nonzero().flatten().tolist()) == set(best.tolist())


def test_blocks_lie_in_the_tensor_that_remains(device: str) -> None:
    subject = tiny(MLP((6, 24, 16, 3)), device=device)
    recipe = Recipe().prune("fc.0", sparsity=0.33, granularity="unit").prune("fc.1", granularity="4x4", sparsity=0.5)
    module = compress(subject, recipe)
    blocks = (module.fc[1].weight != 0).view(4, 4, 4, 4).permute(0, 2, 1, 3).reshape(16, 16).sum(1)
    assert sorted(blocks.tolist()) == [0] * 8 + [16] * 8


def test_soft_weights_are_attenuated_not_sparse(device: str) -> None:
    subject = tiny(device=device)
    report = evaluate(subject, Recipe().prune("fc.0", sparsity=0.5, mode="scale", factor=0.5), device=device)
    layer = report.counts.layers[FIRST]
    assert report.sparsity == 0 and layer.attenuated == 24 and layer.nonzero == 48
    shrunk = evaluate(subject, Recipe().prune("fc.0", sparsity=0.5, mode="shrink"), device=device).counts.layers[FIRST]
    assert shrunk.nonzero == 24 and shrunk.attenuated == 24
    units = evaluate(
        subject, Recipe().prune("fc.0", sparsity=0.5, granularity="unit", mode="scale", factor=0.5), device=device
    )
    assert units.sparsity == 0 and units.counts.layers[SECOND].attenuated == 20
    assert units.parameters == evaluate(subject, device=device).parameters


def test_soft_units_scale_exactly_what_the_unit_puts_out(device: str) -> None:
    subject = tiny(MLP(act=torch.sigmoid), device=device)
    recipe = Recipe().prune("fc.0", sparsity=0.5, granularity="unit", mode="scale", factor=0.25)
    module = compress(subject, recipe)
    small = subject.weight(FIRST).abs().sum(1).argsort()[:4]
    x = subject.example(16)
    with torch.no_grad():
        h = torch.sigmoid(subject.module.fc[0](x))
        h[:, small] *= 0.25
        expected = subject.module.fc[2](torch.sigmoid(subject.module.fc[1](h)))
        assert torch.allclose(module(x), expected, atol=1e-6)
    assert {n: tuple(p.shape) for n, p in module.named_parameters()} == {
        n: tuple(p.shape) for n, p in subject.module.named_parameters()
    }


def test_soft_units_and_soft_weights_multiply(device: str) -> None:
    subject = tiny(device=device)
    units = Recipe().prune("fc.0", sparsity=0.5, granularity="unit", mode="scale", factor=0.5)
    both = units.prune("fc.1", threshold=1e9, mode="scale", factor=0.5)
    one = weights(subject, units)[SECOND]
    assert torch.allclose(weights(subject, both)[SECOND], one * 0.5, atol=1e-8)


def test_equal_plans_have_equal_digests(device: str) -> None:
    subject = tiny(device=device)
    cut = subject.weight(FIRST).abs().flatten().sort().values
    by_threshold = Recipe().prune("fc.0", threshold=float(cut[11]))
    assert resolve(subject, Recipe().prune("fc.0", sparsity=0.25)).digest == resolve(subject, by_threshold).digest
    assert (
        resolve(subject, Recipe().prune("fc.0", sparsity=0.25)).digest
        != resolve(subject, Recipe().prune("fc.0", sparsity=0.5)).digest
    )
    digests = [
        resolve(subject, recipe).digest
        for recipe in (
            Recipe().quantize("fc.0", bits=4),
            Recipe().quantize("fc.0", bits=4, scheme="affine"),
            Recipe().quantize("fc.0", bits=4, granularity="channel"),
            Recipe().quantize("fc.1", bits=4),
            Recipe().prune("fc.0", sparsity=0.25, mode="scale", factor=0.5),
            Recipe().prune("fc.0", sparsity=0.25, mode="shrink"),
            Recipe().prune("fc.0", sparsity=0.5, granularity="unit"),
            Recipe(),
        )
    ]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe().prune("fc.9", sparsity=0.5), "did you mean .*fc.0"),
        (Recipe().prune("fc.0.wieght", sparsity=0.5), "did you mean fc.0.weight"),
        (Recipe().prune("fc.0", sparsity=0.5, criterion="l3"), "unknown criterion 'l3'; did you mean .*l1"),
        (Recipe().quantize("fc.0", bits=4, quantizer="minmix"), "did you mean minmax"),
        (Recipe().prune("fc.0", sparsity=0.5, criterion="nope").prune("*", sparsity=0.1), "unknown criterion"),
        (Recipe().prune("fc.0.bias", sparsity=0.5), "names no layer"),
        (Recipe().keep("nope"), "nope"),
    ],
)
def test_what_means_nothing_here(recipe: Recipe, message: str, device: str) -> None:
    with pytest.raises(RecipeError, match=message):
        resolve(tiny(device=device), recipe)


def test_a_recipe_of_another_model(device: str) -> None:
    with pytest.raises(RecipeError, match="'conv1' names no layer of bikes-mlp"):
        evaluate(few("bikes-mlp", device=device), Recipe().prune("conv1", sparsity=0.5), device=device)


def test_pruning_everything_away_shows_the_true_figures(device: str) -> None:
    subject = tiny(device=device)
    report = evaluate(subject, Recipe().prune("*", threshold=1e9), device=device)
    assert report.sparsity == 1 and report.counts.zeros_left == 1
    y = batch(subject)[1]
    answer = int(subject.module.fc[2].bias.argmax())
    assert report.metrics["accuracy"] == pytest.approx((y == answer).float().mean().item())
    everything = Recipe().prune("*", threshold=1e9, granularity="unit").prune("*", threshold=1e9).quantize("*", bits=2)
    report = evaluate(subject, everything, device=device)
    assert report.sparsity == 1 and report.parameters == (6 + 1) + (1 + 1) + (3 + 3)
    module = compress(subject, everything)
    assert [tuple(layer.weight.shape) for layer in module.fc] == [(1, 6), (1, 1), (3, 1)]


def test_the_random_criterion_cuts_the_same_each_time(device: str) -> None:
    a, b = (resolve(tiny(device=device), Recipe().prune("*", sparsity=0.5, criterion="random")).masks for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a[FIRST].flatten()[:15], a[THIRD].flatten())


def test_resolving_within_inference_mode_does_no_harm(device: str) -> None:
    subject = tiny(device=device)
    recipe = Recipe().prune("fc.0", sparsity=0.5, granularity="unit").prune("*", sparsity=0.5).quantize("*", bits=4)
    with torch.inference_mode():
        evaluate(subject, recipe, device=device)
    module = compress(subject, recipe)
    for parameter in module.parameters():
        assert parameter.requires_grad and not parameter.is_inference()
    module(subject.example(4)).sum().backward()
    assert module.fc[0].weight.grad is not None
