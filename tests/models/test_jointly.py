"""Which of many things are tried together, and that none that does not hold is missed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.models.jointly import FEW, reasons


class Bench:
    """Things of which some are wrong; a wrong one is not seen where one that hides it is there, too."""

    def __init__(self, n: int, wrong: set[int], hides: dict[int, int] | None = None) -> None:
        self.n, self.wrong, self.hides = n, wrong, hides or {}
        self.rounds: list[list[int]] = []
        self.singles: list[int] = []

    def together(self, things: Sequence[int], place: int) -> bool:
        self.rounds.append(list(things))
        return not any(i in self.wrong and self.hides.get(i) not in things for i in things)

    def alone(self, thing: int) -> str | None:
        self.singles.append(thing)
        return f"wrong {thing}" if thing in self.wrong else None

    def found(self, kinds: Sequence[int] | None = None) -> set[int]:
        answers = reasons(kinds or [0] * self.n, self.together, self.alone)
        assert all(answer in (None, f"wrong {i}") for i, answer in enumerate(answers)) and len(answers) == self.n
        return {i for i, answer in enumerate(answers) if answer is not None}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 70).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(n - 1, 0)), max_size=min(n, 5)))
    )
)
def test_exactly_what_does_not_hold_is_found(case: tuple[int, set[int]]) -> None:
    n, wrong = case
    bench = Bench(n, {i for i in wrong if i < n})
    assert bench.found() == bench.wrong
    tried = [set(things) for things in bench.rounds]
    for one in range(n if n >= FEW else 0):  # together with others, or by itself
        assert one in bench.singles or sum(one in things for things in tried) >= 2


def test_of_any_two_each_is_tried_without_the_other() -> None:
    bench = Bench(37, set())
    bench.found()
    assert not bench.singles and len(bench.rounds) == 2 * 6
    assert all(
        any(a in things and b not in things for things in bench.rounds) for a in range(37) for b in range(37) if a != b
    )


def test_one_that_another_hides_is_found() -> None:
    for other in (0, 4, 18):
        assert Bench(20, {5}, {5: other}).found() == {5}


def test_rounds_grow_with_the_logarithm() -> None:
    for n in (8, 64, 512, 4096):
        good, one = Bench(n, set()), Bench(n, {n // 3})
        assert not good.found() and one.found() == {n // 3}
        places = n.bit_length() - 1
        assert len(good.rounds) == 2 * places and not good.singles
        assert len(one.rounds) <= 4 * places + 4 and len(one.singles) <= 4


def test_a_kind_of_which_nothing_holds_is_not_halved() -> None:
    bench = Bench(64, set(range(0, 64, 2)))
    assert bench.found([i % 2 for i in range(64)]) == bench.wrong
    assert len(bench.singles) <= 33 and len(bench.rounds) <= 2 * 6 + 2


@pytest.mark.parametrize("n", [2, 9])
def test_progress_comes_to_its_end(n: int) -> None:
    told: list[tuple[int, int]] = []
    reasons([0] * n, lambda things, place: True, lambda i: None, lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[-1] == (n, n)
