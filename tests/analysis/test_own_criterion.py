"""A criterion of one's own, from a notebook."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import explorer
from explorer.analysis.criteria import Criterion, criteria, registry
from explorer.analysis.look import Look
from explorer.core.errors import RecipeError, UnsupportedError
from explorer.models.subject import Subject
from tests.contract.nets import tiny


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    yield
    for name in ("mine", "class"):
        if name in registry:
            registry.forget(name)


def test_a_function_becomes_a_criterion_everywhere(device: str) -> None:
    @explorer.criterion("mine", title="my own", aggregate="max")
    def mine(weight: Tensor, gradient: Tensor) -> Tensor:
        """Score: |w| + |w g|."""
        return weight.abs() + (weight * gradient).abs()

    one = tiny(device=device)
    assert "mine" in criteria() and registry.help("mine") == "Score: |w| + |w g|." and registry["mine"].family == "own"
    found = explorer.importance(one, "mine")["fc.0.weight"]
    assert torch.allclose(
        found, explorer.importance(one, "l1")["fc.0.weight"] + explorer.importance(one, "snip")["fc.0.weight"]
    )
    units = explorer.importance(one, "mine", granularity="unit")["fc.0"]
    assert torch.allclose(units, found.amax(1))
    plan = explorer.resolve(one, explorer.Recipe().prune("fc.0.weight", sparsity=0.5, criterion="mine"))
    assert int((~plan.masks["fc.0.weight"]).sum()) == 24
    assert explorer.importance(one, "mine/mac")["fc.0.weight"].shape == (8, 6)


def test_defined_again_it_takes_the_place_of_the_former(device: str) -> None:
    one, recipe = tiny(device=device), explorer.Recipe().prune("fc.0.weight", sparsity=0.5, criterion="mine")
    explorer.criterion("mine")(lambda weight: weight.abs())
    first = explorer.resolve(one, recipe).masks["fc.0.weight"]
    explorer.criterion("mine")(lambda weight: -weight.abs())
    second = explorer.resolve(one, recipe).masks["fc.0.weight"]
    assert torch.equal(first, ~second)


def test_what_it_may_ask_for(device: str) -> None:
    one = tiny(device=device)
    explorer.criterion("mine")(lambda weight, squared, inputs: weight**2 * squared * inputs)
    expected = 2 * explorer.importance(one, "fisher")["fc.1.weight"] * explorer.importance(one, "wanda")["fc.1.weight"]
    found = explorer.importance(one, "mine")["fc.1.weight"] * one.weight("fc.1.weight").abs()
    assert torch.allclose(found, expected, rtol=1e-4)


def test_a_class_of_ones_own(device: str) -> None:
    @explorer.criterion("class", title="a class")
    class Mine(Criterion):
        """Score of a unit: its number."""

        of_weights = False

        def unit_scores(self, subject: Subject, cut: object, look: Look) -> Tensor:
            return torch.arange(cut.group.units).float()  # type: ignore[attr-defined]

    plan = explorer.resolve(
        tiny(device=device), explorer.Recipe().prune("fc.0", sparsity=0.5, granularity="unit", criterion="class")
    )
    assert plan.kept["fc.0"].tolist() == [4, 5, 6, 7]


def test_mistakes(device: str) -> None:
    with pytest.raises(RecipeError, match="'l1' is one of the package's"):
        explorer.criterion("l1")(lambda weight: weight)
    with pytest.raises(RecipeError, match="parameter 'weights'; accepted: weight, gradient, squared, inputs"):
        explorer.criterion("mine")(lambda weights: weights)
    with pytest.raises(RecipeError, match="without a slash"):
        explorer.criterion("a/b")(lambda weight: weight)
    with pytest.raises(RecipeError, match="aggregate='median'"):
        explorer.criterion("mine", aggregate="median")  # type: ignore[arg-type]
    explorer.criterion("mine")(lambda weight: weight.sum())
    with pytest.raises(UnsupportedError, match=r"the criterion gave \(\); accepted: a tensor \(8, 6\)"):
        explorer.importance(tiny(device=device), "mine")
    explorer.criterion("mine")(lambda weight: weight * float("nan"))
    with pytest.raises(UnsupportedError, match="NaN or infinity"):
        explorer.importance(tiny(device=device), "mine")


@pytest.mark.parametrize("what", ["weight", "gradient", "squared", "inputs"])
def test_what_a_criterion_writes_to_is_its_own(what: str, device: str) -> None:
    one = tiny(device=device)
    functions = {
        "weight": lambda weight: weight.abs_().add_(1),
        "gradient": lambda gradient: gradient.abs_().add_(1),
        "squared": lambda squared: squared.add_(1),
        "inputs": lambda inputs: inputs.add_(1),
    }
    explorer.criterion("mine")(functions[what])
    explorer.importance(one, "mine", device=device)
    for name in ("l1", "gradient", "taylor", "fisher", "wanda"):
        fresh = explorer.importance(tiny(device=device), name, device=device)["fc.0.weight"]
        torch.testing.assert_close(explorer.importance(one, name, device=device)["fc.0.weight"], fresh)


@pytest.mark.parametrize(("granularity", "name"), [("weight", "fc.0.weight"), ("unit", "fc.0")])
def test_scores_are_the_callers_to_write_to(granularity: str, name: str, device: str) -> None:
    one = tiny(device=device)
    for criterion in ("l1", "taylor"):
        found = explorer.importance(one, criterion, granularity=granularity, device=device)[name]
        before = found.clone()
        found.zero_()
        assert torch.equal(explorer.importance(one, criterion, granularity=granularity, device=device)[name], before)


def test_a_criterion_that_fails_is_named_with_its_layer(device: str) -> None:
    explorer.criterion("mine")(lambda weight: weight.numel() / 0)
    one = tiny(device=device)
    with pytest.raises(UnsupportedError, match=r"fc\.0\.weight: the criterion failed \(ZeroDivisionError.*\(8, 6\)"):
        explorer.importance(one, "mine", layers=["fc.0.weight"], device=device)
    with pytest.raises(UnsupportedError, match="the criterion failed"):
        explorer.resolve(one, explorer.Recipe().prune("*", sparsity=0.5, criterion="mine"))


class Torn:
    """A data set, one sample of which cannot be read."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 33:
            raise OSError("gone")
        return torch.zeros(6), index % 3


def test_labels_that_cannot_be_read_are_said(device: str) -> None:
    whole = tiny(device=device)
    task = explorer.Task.classification(train=Torn(), validation=whole.task.splits["validation"])
    with pytest.raises(explorer.TaskError, match=r"split 'train': targets cannot be read \(OSError: gone\)"):
        explorer.importance(Subject(whole.module, task), "taylor", device=device)
