from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from explorer.core.errors import Cancelled
from explorer.evaluate.queue import DeviceQueue


def run(queue: DeviceQueue, order: list[str], jobs: list[tuple[str, bool, int]]) -> None:
    """Let jobs (user, preview, chunks) wait behind one that holds the device, then let go; ``order`` says who ran."""
    threads, left = [], {user for user, _, _ in jobs}
    with queue.request("first", True) as request, queue.turn(request):
        for user, preview, chunks in jobs:

            def work(user: str = user, preview: bool = preview, chunks: int = chunks) -> None:
                with queue.request(user, preview) as mine:
                    for _ in range(chunks):
                        with queue.turn(mine):
                            order.append(user)
                            until(lambda: queue.waiting >= len(left) - 1)  # everybody stands in line again
                    left.discard(user)

            threads.append(threading.Thread(target=work))
            before = queue.waiting
            threads[-1].start()
            until(lambda before=before: queue.waiting > before)  # type: ignore[misc]
    for thread in threads:
        thread.join(20)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(4000):
        if condition():
            return
        threading.Event().wait(0.0005)


def test_previews_go_first_and_full_evaluations_take_turns() -> None:
    order: list[str] = []
    run(DeviceQueue(), order, [("a", False, 3), ("b", False, 3), ("c", True, 2)])
    assert order[:2] == ["c", "c"] and sorted(order[2:]) == ["a"] * 3 + ["b"] * 3
    assert order[2:4] in (["a", "b"], ["b", "a"]) and order[4:6] in (["a", "b"], ["b", "a"])


def test_a_preview_that_runs_is_finished_before_the_next() -> None:
    order: list[str] = []
    run(DeviceQueue(), order, [("a", True, 3), ("b", True, 3)])
    assert order == ["a"] * 3 + ["b"] * 3


def test_the_newest_request_of_a_user_ends_the_older_one() -> None:
    queue, found = DeviceQueue(), []
    entered, go = threading.Event(), threading.Event()

    def older() -> None:
        with queue.request("me", False) as mine:
            with queue.turn(mine):
                entered.set()
                go.wait(10)
            try:
                with queue.turn(mine):
                    found.append("went on")
            except Cancelled:
                found.append("superseded")

    thread = threading.Thread(target=older)
    thread.start()
    assert entered.wait(10)
    with queue.request("me", True) as newer:
        go.set()
        with queue.turn(newer):
            found.append("newer")
    thread.join(10)
    assert sorted(found) == ["newer", "superseded"] and not queue.waiting


def test_nobodys_requests_do_not_end_each_other() -> None:
    queue = DeviceQueue()
    with queue.request(None, False) as one, queue.request(None, False) as other:
        with queue.turn(one):
            pass
        with queue.turn(other):
            pass
    assert not one.superseded and not other.superseded


def test_one_that_fails_lets_the_next_in_and_turns_nest() -> None:
    queue = DeviceQueue()
    with queue.request("a", True) as mine:
        with pytest.raises(ZeroDivisionError), queue.turn(mine), queue.turn(mine):
            1 / 0  # noqa: B018
        with queue.turn(mine):
            pass


def test_who_leaves_is_not_served_any_more() -> None:
    queue = DeviceQueue()
    with queue.request("gone", False) as mine:
        queue.leave("gone")
        with pytest.raises(Cancelled), queue.turn(mine):
            pass
    assert "gone" not in queue._served and not queue._newest


def test_what_waits_and_is_cancelled_leaves_the_line() -> None:
    queue, stop, ended = DeviceQueue(), threading.Event(), threading.Event()

    def wait() -> None:
        with queue.request("b", False, background=True, cancel=stop.is_set) as request:
            with pytest.raises(Cancelled), queue.turn(request):
                raise AssertionError("it was not its turn")
        ended.set()

    with queue.request("a", False) as mine, queue.turn(mine):
        other = threading.Thread(target=wait)
        other.start()
        until(lambda: queue.waiting == 1)
        stop.set()
        assert ended.wait(30) and queue.waiting == 0
    other.join()


def test_work_in_the_background_gives_way_to_everybody() -> None:
    queue, order, threads = DeviceQueue(), [], []

    def work(user: str, preview: bool, background: bool) -> None:
        with queue.request(user, preview, background) as mine, queue.turn(mine):
            order.append(user)

    with queue.request("first", True) as request, queue.turn(request):
        for i, how in enumerate((("training", False, True), ("evaluation", False, False), ("drag", True, False))):
            threads.append(threading.Thread(target=work, args=how))
            threads[-1].start()
            until(lambda i=i: queue.waiting > i)  # type: ignore[misc]
    for thread in threads:
        thread.join(20)
    assert order == ["drag", "evaluation", "training"]
