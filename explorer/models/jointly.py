"""Trials of many things at once: each round tries about half of them, and only what a round doubts is tried by itself.

Non-adaptive group testing (Dorfman 1943, Ann. Math. Stat. 14:436; Du and Hwang 2000, Combinatorial Group Testing): thing i is in
the rounds (j, bit j of i), so that of any two each is in a round that the other is not in. An error that the other's
presence hides shows there. A round that fails is halved until single things are left, which their own trial decides:
n things, k of them wrong, take 2 log2(n) + O(k log n) trials.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Reason = TypeVar("Reason")
Tell = Callable[[int, int], None] | None
FEW = 4  # fewer things than this are tried one by one: they would be in too few rounds


def reasons(
    kinds: Sequence[Hashable],
    together: Callable[[Sequence[int], int], bool],
    alone: Callable[[int], Reason | None],
    tell: Tell = None,
) -> list[Reason | None]:
    """Why each of some things does not hold, or None.

    kinds: of each thing; where the first of a kind that comes into doubt does not hold, no more of its kind are put together.
    together(things, j): whether these hold at once in a round of place j. alone(thing): why one does not hold by itself.
    tell: called before every trial with (how many of all are done, all), where a round counts for its share, and at the end. What it
    raises ends the search.
    """
    n = len(kinds)
    places = (n - 1).bit_length() if n >= FEW else 0
    found: dict[int, Reason | None] = {}
    asked: set[Hashable] = set()
    rounds = 0

    def report() -> None:
        if tell is not None:
            tell(n * rounds // (2 * places) if places else len(found), n)

    def single(thing: int) -> None:
        report()
        found[thing] = alone(thing)

    def hold(things: Sequence[int], place: int) -> bool:
        report()
        return together(things, place)

    def halve(things: Sequence[int], place: int) -> None:
        """``things`` do not hold together: which of them do not hold?"""
        if len(things) == 1:
            single(things[0])
            return
        middle = len(things) // 2
        for half in (things[:middle], things[middle:]):
            if len(half) == 1 or not hold(half, place):
                halve(half, place)

    def doubt(things: Sequence[int], place: int) -> None:
        """As :func:`halve`, but for kinds of which nothing holds."""
        for kind in dict.fromkeys(kinds[i] for i in things):
            if kind not in asked:
                asked.add(kind)
                first, *others = [i for i in range(n) if kinds[i] == kind and i not in found]
                single(first)
                for thing in others if found[first] is not None else ():
                    single(thing)
        left = [i for i in things if i not in found]
        if left and (len(left) == 1 or len(left) == len(things) or not hold(left, place)):
            halve(left, place)

    for rounds in range(2 * places):
        things = [i for i in range(n) if i >> rounds // 2 & 1 == rounds % 2 and i not in found]
        if things and not hold(things, rounds // 2):
            doubt(things, rounds // 2)
    for thing in range(n) if not places else ():
        single(thing)
    if tell is not None:
        tell(n, n)
    return [found.get(thing) for thing in range(n)]
