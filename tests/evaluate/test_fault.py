"""The sample that a forward fails on is found among many, by few more forwards."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from explorer.core.errors import EvaluationError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate
from explorer.evaluate.fault import alone
from tests.contract.nets import tiny


@given(bad=st.sets(st.integers(5, 99), max_size=4), step=st.integers(1, 120))
def test_the_first_batch_that_fails_is_halved(bad: set[int], step: int) -> None:
    asked = []

    def fails(a: int, b: int) -> bool:
        asked.append((a, b))
        return any(a <= one < b for one in bad)

    assert alone(fails, 5, 100, step) == min(bad, default=None)
    assert len(asked) <= -(-95 // step) + 2 * 7 and all(5 <= a < b <= 100 and b - a <= step for a, b in asked)


def test_samples_that_fail_together_alone_are_nobodys_fault() -> None:
    assert alone(lambda a, b: b - a > 1, 0, 32, 8) is None
    assert alone(lambda a, b: False, 0, 32, 8) is None


class Picky(nn.Module):
    """Fails on what has a large first entry, and on what sums to a number that is not allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if bool((x[:, 0] > 50).any()):
            raise ValueError("a sample it does not like")
        if len(x) > 3 and bool((x[:, 1] > 50).any()):
            raise ValueError("too many of them")
        return self.fc(x)


@pytest.mark.parametrize("recipe", [Recipe(), Recipe().prune("fc", sparsity=0.5)])
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (0, "tiny: forward failed on sample 77 of validation; accepted: .*a sample it does not like"),
        (1, r"tiny: forward failed on validation samples \[.*\]..., though on none of them alone; accepted: .*too many of them"),
    ],
)
def test_the_message_names_it(entry: int, message: str, recipe: Recipe, device: str) -> None:
    subject = tiny(Picky(), n=300, device=device)
    inputs = subject.task.dataset("validation").tensors[0]
    inputs[:] = torch.zeros_like(inputs)
    inputs[77, entry] = 99
    with pytest.raises(EvaluationError, match=message) as caught:
        evaluate(subject, recipe, device=device)
    assert isinstance(caught.value.__cause__, ValueError)
