from __future__ import annotations

from explorer.core.recipe import Recipe
from explorer.ui.history import LIMIT, History


def step(i: int) -> Recipe:
    return Recipe().prune("fc1.weight", threshold=float(i))


def test_undo_and_redo_walk_the_steps() -> None:
    history = History().push(step(1)).push(step(2)).push(step(3))
    assert history.undo().present == step(2) and history.undo().undo().present == step(1)
    assert history.undo().undo().redo().redo() == history


def test_the_ends_are_ends() -> None:
    history = History().push(step(1))
    assert history.redo() is history
    assert history.undo().undo().present == Recipe()


def test_a_new_step_after_undo_drops_what_was_ahead() -> None:
    history = History().push(step(1)).push(step(2)).undo().push(step(9))
    assert history.future == () and history.undo().present == step(1)


def test_equal_rules_are_no_step_but_a_name_stays() -> None:
    history = History().push(step(1))
    named = history.push(step(1).named("half"))
    assert len(named.past) == 1 and named.present.name == "half"


def test_the_present_said_in_another_way_is_no_step() -> None:
    history = History().push(step(1)).push(step(2)).push(step(3)).undo().amend(step(4))
    assert (history.present, history.undo().present, history.redo().present) == (step(4), step(1), step(3))


def test_the_past_is_bounded() -> None:
    history = History()
    for i in range(LIMIT + 50):
        history = history.push(step(i))
    assert len(history.past) == LIMIT and history.past[-1] == step(LIMIT + 48) and history.past[0] == step(49)
