"""A sample as a small picture: images as PNG, sequences as lines, text as text, tables as their largest entries."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from explorer.evaluate.answers import Shown, show
from explorer.models.subject import Subject


def png(array: np.ndarray) -> str:
    """[H, W] or [H, W, 3] in 0..1 as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray((np.clip(array, 0, 1) * 255).astype("uint8")).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def lines(array: np.ndarray, width: int = 120, height: int = 56) -> str:
    """[T, C] as an SVG image, a line a channel."""
    low, high = float(array.min()), float(array.max())
    scaled = (array - low) / (high - low or 1.0)
    steps = max(1, len(array) - 1)
    paths = []
    for c in range(array.shape[1]):
        points = " ".join(f"{width * t / steps:.1f},{height - 3 - (height - 6) * scaled[t, c]:.1f}" for t in range(len(array)))
        paths.append(f'<polyline points="{points}" fill="none" stroke="#5b8def" stroke-width="1.2" opacity="{0.35 + 0.65 * c / array.shape[1]:.2f}"/>')
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(paths)}</svg>'
    encoded = base64.b64encode(drawing.encode()).decode()
    return f'<img class="x-lines" alt="" src="data:image/svg+xml;base64,{encoded}">'


def picture(shown: Shown, labels: Sequence[str] | None = None) -> str:
    """The input as HTML."""
    if shown.kind == "image":
        return f'<img alt="" src="{png(np.asarray(shown.value))}">'
    if shown.kind == "sequence":
        return lines(np.asarray(shown.value))
    if shown.kind == "text":
        return f"<pre>{escape(str(shown.value))}</pre>"
    if shown.kind == "table" and isinstance(shown.value, dict):
        return "<pre>" + escape("\n".join(f"{name}: {_short(value)}" for name, value in shown.value.items())) + "</pre>"
    if shown.kind == "table":
        row = np.asarray(shown.value).reshape(-1)
        names = labels if labels and len(labels) == len(row) else [str(i) for i in range(len(row))]
        top = [i for i in np.argsort(-np.abs(row)) if row[i] != 0][:5]
        return "<pre>" + escape("\n".join(f"{names[i]} {row[i]:.2g}" for i in top)) + "</pre>"
    return ""


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def kept(subject: Subject, split: str, index: int) -> str:
    """The picture of a sample; drawn once, since a step flips much the same samples as the one before."""

    def drawn() -> bytes:  # whose size the memo counts
        return picture(show(subject, split, index), subject.task.labels).encode()

    return subject.memo.get(("picture", split, index), drawn).decode()


def tile(drawn: str, captions: Sequence[tuple[str, str]], title: str) -> str:
    """A picture with its captions, each (css class, text)."""
    text = "".join(f'<div class="{css}">{escape(line)}</div>' for css, line in captions)
    return f'<div class="x-tile" title="{escape(title)}">{drawn}{text}</div>'
