"""One of a thing is not several."""

from __future__ import annotations

from explorer.ui import counted


def test_one_and_several() -> None:
    assert [counted.epochs(n) for n in (1, 3)] == ["1 epoch", "3 epochs"]
    assert [counted.evaluations(n) for n in (1, 2)] == ["1 evaluation", "2 evaluations"]
    assert [counted.parameters(n) for n in (1, 431_080)] == ["1 parameter", "431 k parameters"]
    assert counted.size(12, 1) == "12 parameters in 1 layer" and counted.size(1, 2) == "1 parameter in 2 layers"
