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
    tell: called with (how many of all are done, all), where a round counts for its share.
    """
    n = len(kinds)
    found: dict[int, Reason | None] = {}
    asked: set[Hashable] = set()

    def halve(things: Sequence[int], place: int) -> None:
        """``things`` do not hold together: which of them do not hold?"""
        if len(things) == 1:
            found[things[0]] = alone(things[0])
            return
        middle = len(things) // 2
        for half in (things[:middle], things[middle:]):
            if len(half) == 1 or not together(half, place):
                halve(half, place)

    def doubt(things: Sequence[int], place: int) -> None:
        """As :func:`halve`, but for kinds of which nothing holds."""
        for kind in dict.fromkeys(kinds[i] for i in things):
            if kind not in asked:
                asked.add(kind)
                first, *others = [i for i in range(n) if kinds[i] == kind and i not in found]
                found[first] = alone(first)
                found.update({i: alone(i) for i in others if found[first] is not None})
        left = [i for i in things if i not in found]
        if left and (len(left) == 1 or len(left) == len(things) or not together(left, place)):
            halve(left, place)

    places = (n - 1).bit_length() if n >= FEW else 0
    for place in range(places):
        for bit in (0, 1):
            things = [i for i in range(n) if i >> place & 1 == bit and i not in found]
            if things and not together(things, place):
                doubt(things, place)
            if tell is not None:
                tell(n * (2 * place + bit + 1) // (2 * places), n)
    for thing in range(n) if not places else ():
        found[thing] = alone(thing)
        if tell is not None:
            tell(thing + 1, n)
    return [found.get(thing) for thing in range(n)]
