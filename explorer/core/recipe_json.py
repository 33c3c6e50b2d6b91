"""Recipes as JSON files. Unknown fields, wrong types and newer versions are refused with the place named."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from .errors import RecipeError
from .rules import Clear, Keep, Prune, Quantize, Rule, is_text, shown

if TYPE_CHECKING:
    from .recipe import Recipe

FORMAT, VERSION = "compression-explorer-recipe", 1
LIMIT = 1_000_000  # characters; the longest honest recipe is a few thousand
RULES: dict[str, type[Rule]] = {cls.rule: cls for cls in (Prune, Quantize, Clear, Keep)}


def _rule(rule: Rule) -> dict[str, Any]:
    out: dict[str, Any] = {"rule": rule.rule, "targets": list(rule.targets)}
    for field in fields(rule)[1:]:
        value = getattr(rule, field.name)
        if value != field.default or field.name == "bits":
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
    where = f"recipe, rule {index + 1}"
    got = item.get("rule") if isinstance(item, dict) else item
    if not isinstance(item, dict) or not isinstance(got, str) or got not in RULES:
        raise RecipeError(f"{where}: rule={shown(got)}; accepted: {', '.join(RULES)}")
    cls = RULES[got]
    values = {key: value for key, value in item.items() if key != "rule"}
    known = [field.name for field in fields(cls)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise RecipeError(f"{where}: unknown field {shown(unknown[0])} of {got}; accepted: {', '.join(known)}")
    if not isinstance(values.get("targets"), list):
        raise RecipeError(f"{where}: targets must be a list of names, got {shown(values.get('targets'))}")
    if "kinds" in values and not isinstance(values["kinds"], list):
        raise RecipeError(f"{where}: kinds must be a list, got {shown(values['kinds'])}")
    try:
        return cls(**values)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None


def parse(text: str | bytes) -> Recipe:
    """Read a recipe. Raises :class:`RecipeError` for anything that is not a recipe of this version or older."""
    from .recipe import Recipe

    if not isinstance(text, (str, bytes)):
        raise RecipeError(f"recipe: {type(text).__name__} is no JSON text; accepted: what Recipe.to_json() writes")
    if len(text) > LIMIT:
        raise RecipeError(f"recipe: {len(text):,} characters; at most {LIMIT:,} are read")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"recipe: not valid JSON ({error}); accepted: what Recipe.to_json() writes") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise RecipeError(f'recipe: no "format": "{FORMAT}"; accepted: what Recipe.to_json() writes')
    version = raw.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RecipeError(f"recipe: version={shown(version)}; accepted: 1 to {VERSION}")
    if version > VERSION:
        raise RecipeError(f"recipe: written by a newer release (version {version}); this one reads up to {VERSION}")
    rules, name = raw.get("rules"), raw.get("name", "")
    if not isinstance(rules, list) or not is_text(name):
        raise RecipeError("recipe: 'rules' must be a list and 'name' a text")
    return Recipe(tuple(_parse_rule(i, item) for i, item in enumerate(rules)), name)
