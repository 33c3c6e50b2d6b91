"""What a criterion lacks is said before work starts, with what would do instead."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import explorer
from explorer.analysis.criteria import criteria, registry
from explorer.analysis.importance import importance
from explorer.compress.resolve import resolve
from explorer.core.errors import RecipeError, UnsupportedError
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.models.task import Task
from tests.contract.nets import MLP, classification, few, tiny


def without(device: str, **missing: None) -> Subject:
    task = classification((6,))
    splits = {name: data for name, data in task.splits.items() if name not in missing}
    loss = None if "loss" in missing else F.cross_entropy
    made = Task(splits=splits, loss=loss, score=lambda o, t: {"right": (o.argmax(1) == t).float()})
    return Subject(MLP().to(device), made, "without")


def test_no_train_split(device: str) -> None:
    one = without(device, train=None)
    for criterion in criteria():
        needs, granularity = registry[criterion].needs, "weight" if registry[criterion].of_weights else "unit"
        if needs:
            with pytest.raises(UnsupportedError, match='no "train" split.*l1, l2 or lamp'):
                importance(one, criterion, granularity=granularity)  # type: ignore[arg-type]
        elif criterion != "bn-scale":
            assert importance(one, criterion, granularity=granularity)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match='fc.0.weight: .*no "train" split'):
        resolve(one, Recipe().prune("fc.0.weight", sparsity=0.5, criterion="taylor"))


def test_no_loss_leaves_what_only_goes_forward(device: str) -> None:
    one = without(device, loss=None)
    for criterion in criteria():
        needs, granularity = registry[criterion].needs, "weight" if registry[criterion].of_weights else "unit"
        if needs & {"loss", "gradients"}:
            with pytest.raises(UnsupportedError, match="no loss; give one"):
                importance(one, criterion, granularity=granularity)  # type: ignore[arg-type]
    with_loss = tiny(device=device)
    with_loss.module.load_state_dict(one.module.state_dict())
    for criterion, granularity in (("wanda", "weight"), ("activation", "unit"), ("apoz", "unit")):
        first = importance(one, criterion, granularity=granularity, samples=64)  # type: ignore[arg-type]
        second = importance(with_loss, criterion, granularity=granularity, samples=64)  # type: ignore[arg-type]
        assert all(torch.allclose(first[key], second[key]) for key in first)


def test_a_frozen_module_has_gradients_all_the_same_and_stays_frozen(device: str) -> None:
    free, frozen = tiny(device=device), tiny(device=device)
    for parameter in frozen.module.parameters():
        parameter.requires_grad_(False)
    for criterion in ("taylor", "grasp", "fisher"):
        first, second = importance(free, criterion, samples=32), importance(frozen, criterion, samples=32)
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert not any(parameter.requires_grad for parameter in frozen.module.parameters())
    with torch.inference_mode():
        made = tiny(MLP())
        assert importance(made, "snip", samples=32) and importance(made, "wanda", samples=32)


def test_detached_and_unused_layers(device: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.unused = nn.Linear(6, 4), nn.Linear(4, 3), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                h = self.a(x)
            return self.b(F.relu(h))

    one = Subject(Net().to(device), classification((6,)))
    for name in ("a.weight", "unused.weight"):
        with pytest.raises(UnsupportedError, match=f"no gradient of the loss reaches {name}.*l1 needs none"):
            importance(one, "snip", layers=[name])
    assert set(importance(one, "snip")) == {"b.weight"} and set(importance(one, "l1")) == {
        "a.weight",
        "b.weight",
        "unused.weight",
    }
    assert set(importance(one, "wanda")) == {"a.weight", "b.weight"}

    class Rounds(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()

    with pytest.raises(UnsupportedError, match="does not depend on the weights through differentiable"):
        importance(Subject(Rounds().to(device), classification((6,))), "taylor")


def test_batch_norm_scale_without_batch_norm_and_units_of_weights(device: str) -> None:
    with pytest.raises(
        UnsupportedError, match="fc.0: the units of fc.0 pass no BatchNorm with a scale; l1, l2 or taylor would do"
    ):
        importance(tiny(device=device), "bn-scale", granularity="unit")
    with pytest.raises(UnsupportedError, match=r"scores units, not single weights; prune units instead \(granularity='unit'\)"):
        importance(tiny(device=device), "fpgm")
    with pytest.raises(UnsupportedError, match="scores units"):
        resolve(tiny(device=device), Recipe().prune("fc.0", sparsity=0.5, criterion="relevance"))


def test_a_rule_for_all_names_the_layers_that_do_not_fit_before_it_works(device: str) -> None:
    one = few("surnames-gru", device=device)
    rule = Recipe().prune("*", sparsity=0.5, criterion="synflow", scope="global")
    with pytest.raises(
        UnsupportedError,
        match="SynFlow cannot score 1 of the 6 that are meant. embedding.weight: .*reads integers.*Accepted: another criterion; or the others alone: name them, or protect",
    ):
        resolve(one, rule)
    assert set(resolve(one, rule.keep("embedding")).masks) == {layer.name for layer in one.layers} - {
        "embedding.weight"
    }
    assert resolve(one, Recipe().prune(["gru", "head"], sparsity=0.5, criterion="synflow")).masks

    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)

    with pytest.raises(
        UnsupportedError, match="cannot score 1 of the 2 that are meant. layers.3: .*no BatchNorm with a scale"
    ):
        resolve(
            tiny(Normed(), device=device), Recipe().prune("*", sparsity=0.5, criterion="bn-scale", granularity="unit")
        )
    with pytest.raises(UnsupportedError, match="cannot score 4 of the 4 .*and 1 more. Accepted"):
        resolve(tiny(MLP((6, 5, 4, 4, 3)), device=device), Recipe().prune("*", sparsity=0.5, criterion="fpgm"))
    fresh = tiny(device=device)
    assert fresh.structure.cuts  # found by running the model, whatever is asked for
    calls: list[int] = []
    original = fresh.task.forward
    object.__setattr__(
        fresh.task, "forward", lambda module, inputs: (calls.append(len(inputs)), original(module, inputs))[1]
    )
    with pytest.raises(UnsupportedError):
        resolve(fresh, Recipe().prune("*", sparsity=0.5, criterion="bn-scale", granularity="unit"))
    assert not calls  # nothing was run


def test_models_that_read_integers(device: str) -> None:
    one = few("surnames-gru", device=device)
    with pytest.raises(UnsupportedError, match="embedding.weight reads integers, and SynFlow starts behind it"):
        importance(one, "synflow", layers=["embedding.weight"])
    assert set(importance(one, "synflow")) == {layer.name for layer in one.layers} - {"embedding.weight"}
    assert set(importance(one, "taylor", samples=8)) == {layer.name for layer in one.layers}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(criterion="taylor/watt"), "unknown cost 'watt'.*byte"),
        (dict(criterion="tailor/mac"), "unknown criterion 'tailor'"),
        (dict(criterion="snip", samples=0), "samples=0; accepted: a whole number from 1"),
        (dict(criterion="snip", samples=2.5), "samples=2.5"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, device: str) -> None:
    with pytest.raises(RecipeError, match=message):
        explorer.importance(tiny(device=device), **arguments)


def test_a_loss_that_fails_is_said_with_what_failed(device: str) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("no such thing")

    one = Subject(MLP().to(device), classification((6,), loss=loss))
    with pytest.raises(
        UnsupportedError, match="forward or backward fails on training samples: ValueError: no such thing"
    ):
        importance(one, "taylor")
    assert importance(one, "l1")
    listed = Subject(MLP().to(device), classification((6,), loss=lambda o, t: F.cross_entropy(o, t, reduction="none")))
    with pytest.raises(UnsupportedError, match="accepted: a scalar tensor"):
        importance(listed, "taylor")
    pair = Subject(
        MLP().to(device),
        classification(
            (6,), loss=lambda o, t: (F.cross_entropy(o, t, reduction="none"), torch.ones_like(t, dtype=torch.float32))
        ),
    )
    plain = Subject(pair.module, classification((6,)))
    assert torch.allclose(importance(pair, "snip")["fc.0.weight"], importance(plain, "snip")["fc.0.weight"])
