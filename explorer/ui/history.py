"""Undo and redo over recipes: one step a gesture."""

from __future__ import annotations

from dataclasses import dataclass, replace

from explorer.core.recipe import Recipe

LIMIT = 200


@dataclass(frozen=True)
class History:
    """past (oldest first), present, future (next first)."""

    present: Recipe = Recipe()
    past: tuple[Recipe, ...] = ()
    future: tuple[Recipe, ...] = ()

    def push(self, recipe: Recipe) -> History:
        """A new present; a recipe with equal rules is no step."""
        if recipe.rules == self.present.rules:
            return self.amend(recipe)
        return History(recipe, (*self.past, self.present)[-LIMIT:])

    def amend(self, recipe: Recipe) -> History:
        """The present said in another way, which is no step: to undo it would change nothing that is seen."""
        return replace(self, present=recipe)

    def undo(self) -> History:
        """One step back, if there is one."""
        return History(self.past[-1], self.past[:-1], (self.present, *self.future)) if self.past else self

    def towards(self, recipe: Recipe) -> History:
        """Back or forward to where the recipe was present; a new step where it never was."""
        for steps in (History.undo, History.redo):
            found = self
            while (after := steps(found)) is not found:
                found = after
                if found.present == recipe:
                    return found
        return self.push(recipe)

    def redo(self) -> History:
        """One step forward, if there is one."""
        return History(self.future[0], (*self.past, self.present), self.future[1:]) if self.future else self
