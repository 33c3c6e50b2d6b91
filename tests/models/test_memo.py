from __future__ import annotations

import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import explorer.models.memo as memos
from explorer.models.memo import Memo, nbytes


def test_computes_once_and_keeps() -> None:
    memo, calls = Memo(), []
    for _ in range(3):
        assert memo.get("a", lambda: calls.append(1) or 7) == 7
    assert len(calls) == 1


def test_bytes_are_counted_in_nested_values(device: str) -> None:
    tensor = torch.zeros(10, device=device)
    assert nbytes(tensor) == 40
    assert nbytes((tensor, [tensor], {"a": tensor})) == 120
    assert nbytes(SimpleNamespace(a=tensor, b={"c": tensor})) >= 80
    assert nbytes({"counts": np.zeros(1000)}) == 8000
    memo = Memo()
    memo.put("known", tensor, 7)
    assert memo.used == 7


def test_least_recently_used_go_first(device: str) -> None:
    memo = Memo(budget=1000)
    for key in "abc":
        memo.get(key, lambda: torch.zeros(100, device=device))  # 400 bytes each
    assert memo.peek("a") is None and memo.peek("b") is not None and memo.used == 800
    memo.get("b", lambda: pytest.fail("b is kept"))
    memo.get("d", lambda: torch.zeros(100, device=device))
    assert memo.peek("c") is None and memo.peek("b") is not None and memo.used == 800


def test_all_memos_share_one_room_and_the_longest_unused_goes_first(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memos, "ROOM", 2000)
    monkeypatch.setattr(memos, "_memos", weakref.WeakSet())  # those of other tests may live still
    one, other = Memo(), Memo()
    for key in "ab":
        one.put(key, torch.zeros(100, device=device))
        other.put(key, torch.zeros(100, device=device))
    one.get("a", lambda: pytest.fail("it is kept"))
    for key in "cd":
        one.put(key, torch.zeros(100, device=device))
    assert [other.peek(key) is None for key in "ab"] == [True, False]  # its newest stays
    assert [one.peek(key) is None for key in "abcd"] == [False, False, False, False]
    one.put("e", torch.zeros(100, device=device))
    assert one.peek("b") is None and one.peek("a") is not None
    assert one.used == 1600 and other.used == 400
    del one
    for key in "cdef":
        other.put(key, torch.zeros(100, device=device))
    assert other.used == 2000 and other.peek("b") is not None  # a memo that is gone takes no room


def test_replacing_an_entry_does_not_count_it_twice(device: str) -> None:
    memo = Memo(budget=1000)
    for _ in range(5):
        memo.put("a", torch.zeros(100, device=device))
    assert memo.used == 400


def test_one_value_over_the_budget_is_kept_alone(device: str) -> None:
    memo = Memo(budget=100)
    memo.put("small", torch.zeros(5, device=device))
    assert len(memo.get("big", lambda: torch.zeros(1000, device=device))) == 1000
    assert memo.peek("small") is None and memo.used == 4000


def test_exceptions_are_not_kept() -> None:
    memo = Memo()
    with pytest.raises(ZeroDivisionError):
        memo.get("a", lambda: 1 / 0)
    assert memo.get("a", lambda: 3) == 3


def test_identical_work_in_flight_is_done_once() -> None:
    memo, entered, release, calls, results = Memo(), threading.Event(), threading.Event(), [], []

    def compute() -> int:
        calls.append(1)
        entered.set()
        assert release.wait(10)
        return 5

    threads = [threading.Thread(target=lambda: results.append(memo.get("a", compute))) for _ in range(6)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    assert memo.get("b", lambda: 1) == 1  # other keys do not wait
    release.set()
    for thread in threads:
        thread.join(10)
    assert results == [5] * 6 and len(calls) == 1


def test_those_who_wait_for_a_failure_try_themselves() -> None:
    memo, entered, release, calls, results = Memo(), threading.Event(), threading.Event(), [], []

    def compute() -> int:
        calls.append(1)
        if len(calls) == 1:
            entered.set()
            assert release.wait(10)
            raise ValueError("first")
        return 5

    def ask() -> None:
        try:
            results.append(memo.get("a", compute))
        except ValueError:
            results.append("failed")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    release.set()
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, results)) == ["5", "5", "failed"] and len(calls) == 2


def test_many_threads_many_keys(device: str) -> None:
    memo, wrong = Memo(budget=4000), []

    def work(offset: int) -> None:
        for i in range(300):
            key = (i * 7 + offset) % 23
            if memo.get(key, lambda key=key: torch.full((50,), key, device=device))[0] != key:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and memo.used <= 4000 and not memo._busy


def test_whoever_keeps_a_result_does_not_wait_for_room_that_another_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memos, "ROOM", 10)
    mine = Memo(1000)
    with memos._clearing:  # another thread is at it
        assert mine.get("a", lambda: b"0123456789ab") and mine.get("b", lambda: b"0123456789ab")
        assert mine.used == 24
    mine.get("c", lambda: b"0")
    assert mine.used == 1 and mine.peek("a") is None
