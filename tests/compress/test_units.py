from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import explorer
from explorer.compress.apply import compress, verify
from explorer.compress.resolve import resolve
from explorer.core.errors import RecipeError, UnsupportedError
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import counts
from explorer.evaluate.evaluator import evaluate
from explorer.models.subject import Subject
from tests.contract.nets import CNN_MLP, RECURRENT, HardView, few, randomize, sample, state, tiny, unchanged


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(6, 4)
        self.head = nn.Linear(8, 3)
        self.side = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        return self.head(h + F.relu(self.b(h))) + self.side(F.relu(self.c(x)))


def rows(weight: Tensor, criterion: str) -> Tensor:
    flat = weight.flatten(1)
    return flat.abs().sum(1) if criterion == "l1" else flat.square().sum(1).sqrt()


@pytest.mark.parametrize("criterion", ["l1", "l2"])
@pytest.mark.parametrize("name", CNN_MLP)
def test_a_groups_score_is_aggregated_over_its_producers(name: str, criterion: str, device: str) -> None:
    subject = few(name, device=device)
    assert subject.groups
    for group in subject.groups:
        parts = [rows(subject.weight(producer), criterion) for producer in group.producers]
        score = sum(parts) if criterion == "l1" else torch.stack(parts).square().sum(0).sqrt()
        for sparsity in (0.0, 0.3, 0.5, 0.999):
            recipe = Recipe().prune(group.producers[0], sparsity=sparsity, granularity="unit", criterion=criterion)
            kept = resolve(subject, recipe).kept.get(group.name, torch.arange(group.units))
            k = min(round(sparsity * group.units), group.units - 1)
            expected = set(range(group.units)) - set(score.argsort()[:k].tolist())
            assert set(kept.tolist()) == expected, (group.name, sparsity)


def test_global_units_are_ranked_over_their_groups_mean(device: str) -> None:
    subject = tiny(Residual(), device=device)
    with torch.no_grad():
        subject.module.c.weight.mul_(1000)  # only the normalization lets both groups lose units
    groups = {group.name: group for group in subject.groups}
    assert sorted(groups) == ["a", "c"] and groups["a"].producers == ("a.weight", "b.weight")
    plan = resolve(subject, Recipe().prune("*", sparsity=0.5, granularity="unit", scope="global"))
    a = rows(subject.weight("a.weight"), "l1") + rows(subject.weight("b.weight"), "l1")
    c = rows(subject.weight("c.weight"), "l1")
    ranked = torch.cat([a / a.mean(), c / c.mean()])
    gone = set(ranked.argsort()[:6].tolist())
    assert set(plan.kept["a"].tolist()) == {i for i in range(8) if i not in gone}
    assert set(plan.kept["c"].tolist()) == {i for i in range(4) if i + 8 not in gone}
    threshold = resolve(subject, Recipe().prune("*", threshold=0.9, granularity="unit", scope="global"))
    assert set(threshold.kept["c"].tolist()) == {i for i in range(4) if c[i] / c.mean() > 0.9}


def test_a_rule_on_any_producer_cuts_the_group(device: str) -> None:
    subject = tiny(Residual(), device=device)
    for target in ("a", "b"):
        assert len(resolve(subject, Recipe().prune(target, sparsity=0.5, granularity="unit")).kept["a"]) == 4
    last = Recipe().prune("a", sparsity=0.5, granularity="unit").prune("b", sparsity=0.25, granularity="unit")
    assert len(resolve(subject, last).kept["a"]) == 6
    for protected in ("a", "b"):
        assert "a" not in resolve(subject, last.keep(protected)).kept


def test_a_protected_consumer_may_lose_inputs(device: str) -> None:
    subject = tiny(Residual(), device=device)
    module = compress(subject, Recipe().prune("*", sparsity=0.5, granularity="unit").keep("head"))
    assert module.head.weight.shape == (3, 4)


def exact(subject: Subject, recipe: Recipe) -> nn.Module:
    """Compress; the masked original and the smaller module agree, parameters fell as counted, the subject is as it was."""
    before, digest = state(subject.module), subject.digest
    plan = resolve(subject, recipe)
    module = compress(subject, plan)
    assert verify(subject, plan, module, 8) <= 1e-5
    counted = counts(subject, plan)
    size = sum(p.numel() for p in subject.module.parameters())
    assert sum(p.numel() for p in module.parameters()) == counted.parameters < size
    assert unchanged(subject.module, before) and subject.digest == digest
    return module


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_units_and_the_embeddings_width_go_exactly(name: str, device: str) -> None:
    subject = few(name, device=device)
    for layer in subject.layers:
        if layer.kind in ("rnn", "lstm", "gru", "embedding"):
            recipe = Recipe().prune(layer.name, sparsity=0.5, granularity="unit")
            (kept,) = resolve(subject, recipe).kept.values()
            module = exact(subject, recipe)
            group = next(group for group in subject.groups if group.name == layer.group)
            assert group.kind == ("width" if layer.kind == "embedding" else "hidden") and len(kept) == group.units // 2
            shrunk = [p.numel() / subject.weight(n).numel() for n, p in module.named_parameters() if n in group.members]
            assert max(shrunk) < 1
    assert compress(subject, Recipe().prune("*", sparsity=0.25, granularity="unit"))


@pytest.mark.parametrize("name", [*CNN_MLP, *RECURRENT, "fashion-vit"])
def test_units_that_reach_the_output_are_refused(name: str, device: str) -> None:
    subject = few(name, device=device)
    head = [layer.name for layer in subject.layers if layer.kind == "linear"][-1]
    with pytest.raises(UnsupportedError, match=head):
        resolve(subject, Recipe().prune(head, sparsity=0.5, granularity="unit"))


def test_heads_and_feed_forward_units_of_the_transformer_go_exactly(device: str) -> None:
    subject = few("fashion-vit", device=device)
    found = {group.name: (group.kind, group.units) for group in subject.groups}
    for i in range(4):
        assert found[f"blocks.{i}.attn"] == ("head", 4) and found[f"blocks.{i}.fc1"] == ("neuron", 128)
    for target in ("blocks.0.attn.q", "blocks.0.attn.k", "blocks.0.attn.v", "blocks.3.fc1"):
        module = exact(subject, Recipe().prune(target, sparsity=0.5, granularity="unit"))
        attention = module.blocks[0].attn
        expected = 2 if "attn" in target else 4
        assert attention.heads == expected and attention.q.weight.shape == (expected * 16, 64)
        assert attention.out.weight.shape == (64, expected * 16)
    everything = Recipe().prune("blocks.*", sparsity=0.5, granularity="unit")
    for protected in ("patches", "*.out", "*.fc2"):
        everything = everything.keep(protected)
    module = exact(subject, everything)
    assert [block.attn.heads for block in module.blocks] == [2] * 4
    assert [block.fc1.out_features for block in module.blocks] == [64] * 4


def test_a_view_with_a_number_in_it_is_refused_with_the_reason(device: str) -> None:
    subject = tiny(HardView(), (1, 6, 6), device=device)
    before = state(subject.module)
    with pytest.raises(UnsupportedError, match="conv.weight.*units cannot be removed: the forward pass fails"):
        compress(subject, Recipe().prune("conv", sparsity=0.5, granularity="unit"))
    assert subject.groups == [] and unchanged(subject.module, before)
    assert evaluate(subject, Recipe().prune("conv", sparsity=0.5), device=device).sparsity > 0


class Crossing(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.a, self.norm, self.head = nn.Linear(6, 8), norm, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.a(x))))


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False), nn.GroupNorm(2, 8), nn.GroupNorm(1, 8, affine=False),
     nn.RMSNorm(8)],
    ids=lambda norm: type(norm).__name__,
)  # fmt: skip
def test_units_that_cross_a_norm_over_them_go_with_statistics_over_the_survivors(norm: nn.Module, device: str) -> None:
    subject = tiny(randomize(Crossing(norm)), device=device)
    module = exact(subject, Recipe().prune("a", sparsity=0.5, granularity="unit"))
    assert module.a.weight.shape == (4, 6) and module.head.weight.shape == (3, 4)


@pytest.mark.parametrize("norm", [nn.Softmax(1), nn.LocalResponseNorm(3)], ids=lambda norm: type(norm).__name__)
def test_units_that_cross_a_sum_over_them_are_refused(norm: nn.Module, device: str) -> None:
    class Sized(Crossing):
        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            h = self.norm(h.unsqueeze(-1)).squeeze(-1) if isinstance(self.norm, nn.LocalResponseNorm) else self.norm(h)
            return self.head(F.relu(h))

    subject = tiny(Sized(norm), device=device)
    with pytest.raises(UnsupportedError, match="a.weight"):
        resolve(subject, Recipe().prune("a", sparsity=0.5, granularity="unit"))


def test_heads_of_multihead_attention_and_what_it_projects_go_exactly(device: str) -> None:
    class Attended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.attn, self.head = (
                nn.Linear(4, 8),
                nn.MultiheadAttention(8, 2, batch_first=True),
                nn.Linear(8, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            return self.head(self.attn(h, h, h)[0].mean(1))

    subject = tiny(Attended(), (5, 4), device=device)
    found = {g.name: (g.units, g.producers) for g in subject.groups}
    assert found["attn"] == (2, ("attn.in_proj_weight",)) and found["embed"] == (8, ("embed.weight",))
    for target in ("attn.in_proj_weight", "embed", "attn.out_proj"):
        exact(subject, Recipe().prune(target, sparsity=0.5, granularity="unit"))


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_single_recurrent_layers_lose_units(layer: type[nn.Module], device: str) -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn, self.fc, self.head = (
                nn.Linear(4, 5),
                layer(5, 6, batch_first=True),
                nn.Linear(6, 7),
                nn.Linear(7, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.fc(self.rnn(F.relu(self.embed(x)))[0][:, -1])))

    subject = tiny(randomize(Sequence()), (3, 4), device=device)
    assert [(g.name, g.kind) for g in subject.groups] == [("embed", "neuron"), ("rnn.l0", "hidden"), ("fc", "neuron")]
    for target in ("rnn", "rnn.weight_hh_l0"):
        module = exact(subject, Recipe().prune(target, sparsity=0.5, granularity="unit"))
        assert (module.rnn.hidden_size, module.rnn.input_size) == (3, 5) and module.fc.weight.shape == (7, 3)
    module = exact(subject, Recipe().prune("embed", sparsity=0.4, granularity="unit"))
    assert (module.rnn.hidden_size, module.rnn.input_size) == (6, 3)
    assert exact(subject, Recipe().prune("fc", sparsity=0.5, granularity="unit")).fc.weight.shape == (3, 6)


def test_shrinking_units_is_no_recipe() -> None:
    with pytest.raises(RecipeError, match="shrink"):
        Recipe().prune("a", sparsity=0.5, granularity="unit", mode="shrink")


def test_units_of_all_layers_skip_those_that_have_none(device: str) -> None:
    subject = tiny(Residual(), device=device)
    plan = resolve(subject, Recipe().prune("*", sparsity=0.5, granularity="unit"))
    assert {name: len(kept) for name, kept in plan.kept.items()} == {"a": 4, "c": 2}
    assert evaluate(subject, Recipe().prune("*", sparsity=0.5, granularity="unit"), device=device).n == 64


def test_randomized_batchnorm_is_removed_with_its_units(device: str) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Sigmoid(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    )
    subject = tiny(randomize(net), (1, 8, 8), device=device)
    module = compress(
        subject, Recipe().prune("0", sparsity=0.5, granularity="unit").prune("3", sparsity=0.25, granularity="unit")
    )
    kept = resolve(subject, Recipe().prune("0", sparsity=0.5, granularity="unit")).kept["0"]
    assert module[1].num_features == 3 and torch.equal(module[1].running_mean, net[1].running_mean[kept])
    assert torch.equal(module[1].weight, net[1].weight[kept]) and module[5].weight.shape == (3, 48)


def test_unit_counts_are_rounded_to_a_multiple_and_kept_above_a_floor(device: str) -> None:
    subject = sample("vowels-lstm", device)
    recipe = Recipe().prune("lstm", granularity="unit", sparsity=0.4, multiple=8)
    assert {name: len(kept) for name, kept in explorer.resolve(subject, recipe).kept.items()} == {"lstm.l0": 40, "lstm.l1": 40}
    recipe = Recipe().prune("lstm", granularity="unit", threshold=1e9, at_least=5)
    assert {len(kept) for kept in explorer.resolve(subject, recipe).kept.values()} == {5}
    assert explorer.compress(subject, recipe).lstm.hidden_size == 5
    assert Recipe.from_json(recipe.to_json()) == recipe
    for wrong in ({"multiple": 0}, {"multiple": True}, {"at_least": 2.5}, {"granularity": "weight", "multiple": 8}):
        with pytest.raises(RecipeError):
            Recipe().prune("lstm", **({"granularity": "unit", "sparsity": 0.5} | wrong))
