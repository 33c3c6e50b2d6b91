"""Counting a large model's weights from its file, in threads and with progress, before the screen asks for them one by one."""

from __future__ import annotations

from pathlib import Path

from ..analysis.histogram import LARGE
from ..analysis.words import tally_key
from ..models.subject import Subject
from .sources import checkpoint, is_streamed
from .stream import Cancel, Progress, tallies


def count_weights(subject: Subject, path: Path, progress: Progress = None, cancel: Cancel = None) -> int:
    """Keep with the subject of a safetensors file how often each value occurs in its large layers; how many were counted.

    Histograms, zeros and thresholds are then answered without reading a mapped weight.
    """
    if not is_streamed(path):
        return 0
    source = checkpoint(path)
    shapes = {layer.name: layer.shape for layer in subject.layers if layer.numel >= LARGE}
    names = {name for name, shape in shapes.items() if name in source.entries and source.entries[name].shape == shape}
    for name, one in tallies(source, names, progress, cancel):
        subject.memo.put(tally_key(subject, name), one)
    return len(names)
