from __future__ import annotations

import threading

from explorer.core.kept import kept_property


class Slow:
    """Computes when it is let."""

    def __init__(self, go: threading.Event) -> None:
        self.go, self.asked = go, 0

    @kept_property
    def value(self) -> int:
        """What it is."""
        self.asked += 1
        assert self.go.wait(20)
        return 7


def test_a_value_is_computed_once_and_then_lies_in_the_object() -> None:
    go = threading.Event()
    go.set()
    one = Slow(go)
    assert "value" not in vars(one)
    assert one.value == one.value == vars(one)["value"] == 7 and one.asked == 1
    assert isinstance(Slow.value, kept_property) and Slow.value.__doc__ == "What it is."


def test_one_object_does_not_wait_for_another() -> None:
    held, free = threading.Event(), threading.Event()
    free.set()
    slow, fast = Slow(held), Slow(free)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    while not slow.asked:
        pass
    assert fast.value == 7 and "value" not in vars(slow)
    held.set()
    thread.join(20)
    assert vars(slow)["value"] == 7
