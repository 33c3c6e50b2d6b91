"""Texts that can be said in another language: an English text that remembers its template and values."""

from __future__ import annotations

from collections.abc import Iterable


class Message(str):
    """An English text, and what it was made of.

    template: the English text with ``{placeholders}``, the key in a catalogue. values: what fills them; a value may
    itself be a Message. To everybody else it is a plain string.
    """

    template: str
    values: dict[str, object]

    def __new__(cls, template: str, values: dict[str, object]) -> Message:
        made = super().__new__(cls, template.format(**values) if values else template)
        made.template, made.values = template, values
        return made

    def __getnewargs__(self) -> tuple[str, dict[str, object]]:  # type: ignore[override]  # so that it can be copied and pickled
        return self.template, self.values


def say(template: str, /, **values: object) -> Message:
    """The message of an error or a reason; ``template`` is a literal, so that a tool can collect it.

    >>> say("{layer}: bits={bits}; accepted: 2 to 8", layer="fc1.weight", bits=9)
    'fc1.weight: bits=9; accepted: 2 to 8'
    """
    return Message(template, values)


def joined(parts: Iterable[object], separator: str) -> Message:
    """Like ``separator.join(parts)``; each part, and the separator, may be a Message.

    >>> joined([say("one"), say("two")], "; ")
    'one; two'
    """
    fields: list[object] = [piece for part in parts for piece in (separator, part)][1:]
    return Message("".join(f"{{part{i}}}" for i in range(len(fields))), {f"part{i}": v for i, v in enumerate(fields)})
