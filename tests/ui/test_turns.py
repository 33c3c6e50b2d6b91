"""Whole pages are drawn in turns, in the order in which they were asked for, and what takes long holds up nobody."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from explorer.ui.turns import Turns

SECONDS = 20


def test_no_more_than_there_is_room_for_and_first_come_first_served() -> None:
    turns, go, lock = Turns(2, long=SECONDS), threading.Event(), threading.Lock()
    order: list[int] = []
    inside = [0, 0]  # now, at most

    def page(number: int) -> None:
        with turns.turn():
            with lock:
                order.append(number)
                inside[:] = inside[0] + 1, max(inside[1], inside[0] + 1)
            assert go.wait(SECONDS)
            with lock:
                inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        drawn = []
        for number in range(8):
            drawn.append(pool.submit(page, number))
            while len(order) + turns.waiting < number + 1:
                assert not drawn[-1].done()
        assert order == [0, 1] and turns.waiting == 6
        go.set()
        for one in drawn:
            one.result(SECONDS)
    assert inside == [0, 2] and turns.waiting == 0
    assert sorted(order) == list(range(8)) and all(
        abs(number - place) <= 1 for place, number in enumerate(order)
    )  # two go at once


def test_one_that_takes_long_holds_up_nobody() -> None:
    turns, go = Turns(1, long=0.01), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with turns.turn():
            pool.submit(_within, turns, go).result(SECONDS)
        assert go.is_set()
    with Turns(1, long=SECONDS).turn():
        pass


def _within(turns: Turns, go: threading.Event) -> None:
    with turns.turn():
        go.set()


def test_a_run_that_is_broken_off_gives_its_turn_back() -> None:
    turns = Turns(1, long=SECONDS)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), turns.turn():
            raise KeyboardInterrupt
    with ThreadPoolExecutor(1) as pool:
        go = threading.Event()
        pool.submit(_within, turns, go).result(SECONDS)
    assert go.is_set() and not turns.waiting
