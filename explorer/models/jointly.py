"""Trials of many things at once: each round tries about half of them, and only what a round doubts is tried by itself.

Non-adaptive group testing (Dorfman 1943, Ann. Math. Stat. 14:436; Du and Hwang 2000, Combinatorial Group Testing): thing i is in
the rounds (j, bit j of i), so that of any two each is in a round that the other is not in. An error that the other's
presence hides shows there. A round that fails is halved until single things are left, which their own trial decides:
n things, k of them wrong, take 2 log2(n) + O(k log n) trials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Reason = TypeVar("Reason")
Tell = Callable[[int, int], None] | None
FEW = 4  # fewer things than this are tried one by one: they are in too few rounds


def reasons(
    n: int, together: Callable[[Sequence[int], int], bool], alone: Callable[[int], Reason | None], tell: Tell = None
) -> list[Reason | None]:
    """Why each of ``n`` things does not hold, or None.

    together(things, j): whether these hold at once in a round of place j. alone(thing): why one does not hold by itself.
    tell: called with (things that are decided, n), where rounds still to come count as open.
    """
    found: dict[int, Reason | None] = {}
    if n < FEW:
        for thing in range(n):
            found[thing] = alone(thing)
            _say(tell, thing + 1, n)
        return [found[thing] for thing in range(n)]

    def halve(things: Sequence[int], place: int) -> None:
        """``things`` do not hold together: which of them do not hold?"""
        if len(things) == 1:
            found[things[0]] = alone(things[0])
            return
        middle = len(things) // 2
        for half in (things[:middle], things[middle:]):
            if len(half) == 1 or not together(half, place):
                halve(half, place)

    places = (n - 1).bit_length()
    for place in range(places):
        for bit in (0, 1):
            things = [i for i in range(n) if i >> place & 1 == bit and i not in found]
            if things and not together(things, place):
                halve(things, place)
            _say(tell, n * (2 * place + bit + 1) // (2 * places), n)
    return [found.get(thing) for thing in range(n)]


def _say(tell: Tell, done: int, total: int) -> None:
    if tell is not None:
        tell(done, total)
