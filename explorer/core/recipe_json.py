"""Recipes as JSON files. Unknown fields, wrong types and newer versions are refused with the place named."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from .checks import is_text, shown, wrong
from .errors import RecipeError
from .message import say
from .rules import Clear, Keep, Prepare, Prune, Quantize, Rule

if TYPE_CHECKING:
    from .recipe import Recipe

FORMAT, VERSION = "compression-explorer-recipe", 1
LIMIT = 1_000_000  # characters; the longest honest recipe is a few thousand
RULES: dict[str, type[Rule]] = {cls.rule: cls for cls in (Prune, Quantize, Prepare, Clear, Keep)}


def _rule(rule: Rule) -> dict[str, Any]:
    out: dict[str, Any] = {"rule": rule.rule, "targets": list(rule.targets)}
    for field in fields(rule)[1:]:
        value = getattr(rule, field.name)
        if value != field.default or field.name in ("bits", "step"):
            out[field.name] = list(value) if isinstance(value, tuple) else value
    return out


def dump(recipe: Recipe) -> str:
    """Canonical JSON: defaults left out, keys in the order of the fields."""
    out: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    if recipe.name:
        out["name"] = recipe.name
    out["rules"] = [_rule(rule) for rule in recipe.rules]
    return json.dumps(out, ensure_ascii=False, allow_nan=False, indent=1)


def _parse_rule(index: int, item: object) -> Rule:
    where = say("recipe, rule {number}", number=index + 1)
    got = item.get("rule") if isinstance(item, dict) else item
    if not isinstance(item, dict) or not isinstance(got, str) or got not in RULES:
        raise wrong(where, say("rule={got}; accepted: {rules}", got=shown(got), rules=", ".join(RULES)))
    cls = RULES[got]
    values = {key: value for key, value in item.items() if key != "rule"}
    known = [field.name for field in fields(cls)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise wrong(
            where,
            say(
                "unknown field {field} of {got}; accepted: {known}",
                field=shown(unknown[0]),
                got=got,
                known=", ".join(known),
            ),
        )
    if not isinstance(values.get("targets"), list):
        raise wrong(where, say("targets must be a list of names, got {targets}", targets=shown(values.get("targets"))))
    if "kinds" in values and not isinstance(values["kinds"], list):
        raise wrong(where, say("kinds must be a list, got {kinds}", kinds=shown(values["kinds"])))
    try:
        return cls(**values)
    except RecipeError as error:
        raise wrong(where, error.message) from None


def parse(text: str | bytes) -> Recipe:
    """Read a recipe. Raises :class:`RecipeError` for anything that is not a recipe of this version or older."""
    from .recipe import Recipe

    if not isinstance(text, (str, bytes)):
        raise RecipeError(
            say("recipe: {type} is no JSON text; accepted: what Recipe.to_json() writes", type=type(text).__name__)
        )
    if len(text) > LIMIT:
        raise RecipeError(say("recipe: {count:,} characters; at most {limit:,} are read", count=len(text), limit=LIMIT))
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            say("recipe: not valid JSON ({error}); accepted: what Recipe.to_json() writes", error=str(error))
        ) from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise RecipeError(say('recipe: no "format": "{format}"; accepted: what Recipe.to_json() writes', format=FORMAT))
    version = raw.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RecipeError(
            say("recipe: version={version}; accepted: 1 to {newest}", version=shown(version), newest=VERSION)
        )
    if version > VERSION:
        raise RecipeError(
            say(
                "recipe: written by a newer release (version {version}); this one reads up to {newest}",
                version=version,
                newest=VERSION,
            )
        )
    rules, name = raw.get("rules"), raw.get("name", "")
    if not isinstance(rules, list) or not is_text(name):
        raise RecipeError(say("recipe: 'rules' must be a list and 'name' a text"))
    return Recipe(tuple(_parse_rule(i, item) for i, item in enumerate(rules)), name)
