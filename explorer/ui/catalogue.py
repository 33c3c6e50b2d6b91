"""The Chinese catalogue's keeper: collects the texts on screen, updates the .po, compiles the .mo.

python -m explorer.ui.catalogue            # collect, update, compile
python -m explorer.ui.catalogue --missing  # list what is missing, fuzzy or wrong
"""

from __future__ import annotations

import ast
import difflib
import io
import re
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

PACKAGE = Path(__file__).resolve().parent.parent
PO = Path(__file__).parent / "locale" / "zh_CN" / "LC_MESSAGES" / "explorer.po"
MO = PO.with_suffix(".mo")
FOLDERS = ("ui", "figures")
CLOSE = 0.75  # how like an obsolete text a new one must be to inherit its translation, as fuzzy


@dataclass(frozen=True)
class Entry:
    """A text that must stand in the catalogue: under itself, or under (context, name) with its English as a comment."""

    id: str
    context: str | None
    english: str
    place: str


def wanted() -> list[Entry]:
    """Every text on screen, in the order of the files."""
    found = [*literals(), *titles(), *helps()]
    return list({(entry.context, entry.id): entry for entry in reversed(found)}.values())[::-1]


def literals() -> Iterator[Entry]:
    """The literals within ``_("...")`` of the screen, and within ``say("...")`` anywhere."""
    screen = [path for folder in FOLDERS for path in sorted((PACKAGE / folder).rglob("*.py"))]
    for path in [*screen, *sorted(set(PACKAGE.rglob("*.py")) - set(screen))]:
        place = path.relative_to(PACKAGE.parent).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "say")):
                continue
            text = node.args[0] if node.args else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield Entry(text.value, None, text.value, place)
            elif node.func.id == "say" or not isinstance(text, ast.Attribute):  # titles are collected below
                raise ValueError(f"{place}:{node.lineno}: {node.func.id}() takes a literal; got {ast.unparse(node)}")


def titles() -> Iterator[Entry]:
    """Names on screen of pages and of what is registered."""
    from .pages import pages

    for page in pages():
        yield Entry(page.TITLE, None, page.TITLE, "page")
    for kind, registry in registries().items():
        for name in registry:
            for text in (registry[name].title, *getattr(registry[name], "labels", {}).values()):
                yield Entry(text, None, text, kind)


def helps() -> Iterator[Entry]:
    """What explains itself on hover: registered entries, terms and sample models."""
    import sample_models

    from .terms import TERMS

    for kind, registry in registries().items():
        for name in registry:
            yield Entry(name, kind, registry.help(name), kind)
    for name, text in TERMS.items():
        yield Entry(name, "term", text, "explorer/ui/terms.py")
    for name in sample_models.SAMPLES:
        yield Entry(name, "card", str(sample_models.card(name)["summary"]), "sample_models/cards")


def registries() -> dict:
    """{kind: registry} of what is added by adding a file."""
    from ..analysis.costs import registry as costs
    from ..analysis.criteria import registry as criteria
    from ..compress.observers import registry as observers
    from ..compress.quantizers import registry as quantizers
    from ..export.exporters import registry as exporters
    from ..recover.schedules import registry as schedules

    found: dict = {"criterion": criteria, "cost": costs, "quantizer": quantizers, "observer": observers, "exporter": exporters}
    return found | {"schedule": schedules}


def read(path: Path = PO) -> Catalog:
    """The catalogue as it stands in the file; empty where there is none."""
    if not path.exists():
        return Catalog(locale="zh_CN", domain="explorer", creation_date=datetime(2026, 1, 1, tzinfo=UTC))
    return read_po(io.BytesIO(path.read_bytes()), locale="zh_CN", domain="explorer")


def english(entry: Entry) -> str:
    """The English of a help text, on one line, as its comment in the file holds it."""
    return re.sub(r"\s+", " ", entry.english).strip() if entry.context else ""


def comment(message: Message) -> str:
    """The English that a translation was made from."""
    return " ".join(message.auto_comments)


def updated(old: Catalog, entries: list[Entry]) -> Catalog:
    """The catalogue of ``entries`` with the translations there are; fuzzy where the English has changed."""
    new = Catalog(
        locale="zh_CN", domain="explorer", project="compression-explorer", version="0", language_team="zh_CN",
        msgid_bugs_address="-", last_translator="-", fuzzy=False,
    )  # fmt: skip
    new.creation_date = new.revision_date = old.creation_date  # dates would make every update a change
    new.header_comment = "# The Chinese texts of the compression explorer."
    living = {(entry.context, entry.id) for entry in entries}
    gone = {str(m.id): m for m in old if m.id and m.context is None and (None, m.id) not in living and m.string}
    for entry in entries:
        before = old.get(entry.id, entry.context)
        text, flags = (str(before.string or ""), set(before.flags) & {"fuzzy"}) if before else ("", set())
        if before and entry.context and comment(before) != english(entry) and text:
            flags.add("fuzzy")
        if not before and entry.context is None:
            for like in difflib.get_close_matches(entry.id, gone, 1, CLOSE):
                text, flags = str(gone[like].string), {"fuzzy"}
        new.add(
            entry.id, text, [(entry.place, 0)], flags, auto_comments=[english(entry)] if entry.context else [],
            context=entry.context,
        )  # fmt: skip
    return new


def fields(text: str) -> set[str]:
    """Names of a text's {placeholders}."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def problems(catalogue: Catalog, entries: list[Entry]) -> list[str]:
    """What is missing, empty, fuzzy, obsolete, or has other placeholders than the English."""
    found = []
    for entry in entries:
        name = f"{entry.context}: {entry.id}" if entry.context else entry.id
        message = catalogue.get(entry.id, entry.context)
        text = str(message.string or "") if message else ""
        if message is None or not text.strip():
            found.append(f"missing: {name}")
        elif message.fuzzy:
            found.append(f"fuzzy: {name}")
        elif entry.context and comment(message) != english(entry):
            found.append(f"English has changed: {name}")
        elif entry.context is None and fields(text) != fields(entry.id):
            found.append(f"placeholders differ: {name}: {sorted(fields(entry.id))} and {sorted(fields(text))}")
    living = {(entry.context, entry.id) for entry in entries}
    found += [f"obsolete: {m.id}" for m in catalogue if m.id and (m.context, m.id) not in living]
    return found


def compiled(catalogue: Catalog) -> bytes:
    """The .mo file's content."""
    out = io.BytesIO()
    write_mo(out, catalogue)
    return out.getvalue()


def main(arguments: list[str]) -> int:
    """The command line; 1 where something is left to do."""
    entries = wanted()
    if "--missing" not in arguments:
        catalogue = updated(read(), entries)
        out = io.BytesIO()
        write_po(out, catalogue, width=120, sort_output=False)
        PO.parent.mkdir(parents=True, exist_ok=True)
        PO.write_bytes(out.getvalue())
        MO.write_bytes(compiled(read()))
    left = problems(read(), entries)
    sys.stdout.write("\n".join([*left, f"{len(entries)} texts, {len(left)} to do", ""]))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
