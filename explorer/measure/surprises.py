"""Sentences for what may not be as expected, each drawn from the figures beside it."""

from __future__ import annotations

from collections.abc import Iterator

from ..compress.codes import Codes, Table
from ..compress.plan import Plan
from ..core.explanation import Explanation, Surprise
from ..core.message import say
from ..evaluate.costs import counts
from ..evaluate.macs import count
from ..models.subject import Subject
from .surprises_in_time import SAME, batches, in_time, kept, spoken

SPARSE = 0.3  # fraction of zeros from which a gain would be expected


def surprises(subject: Subject, plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """One for each thing that holds; the order is that of importance."""
    yield from _zeros(subject, plan, seen)
    yield from _tables(subject, plan, seen)
    yield from _indices(subject, plan, seen)
    yield from _graph(subject, plan, seen)
    yield from _floats(seen)
    yield from _tables_in_floats(plan, seen)
    yield from _between(subject, plan, seen)
    yield from in_time(seen)
    yield from _problems(seen)


def _zeros(subject: Subject, plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """Zeros take their place in a dense file and their time in a dense product."""
    zeros = counts(subject, plan).zeros_left
    if zeros < SPARSE:
        return
    dense = [
        one
        for one in seen.files
        if one.format in ("safetensors", "onnx", "pt2") and one.bytes > 0.9 * one.before * kept(seen)
    ]
    if dense:
        one = dense[0]
        yield Surprise(
            "zeros-not-smaller",
            say(
                "{share:.0%} of the weights that are left are zero, and {file} stores each zero in as many bytes as any number: it has {bytes:,} "
                "bytes. Counted without the zeros the model needs {counted:,}; the packed format leaves them out, and gzip finds "
                "them ({gzip:,} bytes).",
                share=zeros, file=one.file, bytes=one.bytes, counted=seen.counted.total, gzip=one.gzip,
            ),
        )  # fmt: skip
    for batch in batches(seen):
        before, after = seen.latency("original", "onnx", batch), seen.latency("compressed", "onnx", batch)
        if before and after and kept(seen) > 0.95 and before.median / after.median < 1 + 2 * SAME:
            yield Surprise(
                "zeros-not-faster",
                say(
                    "ONNX Runtime takes {after} for a batch of {batch} with {share:.0%} zeros, and {before} without: its kernels are "
                    "dense and multiply zeros like any number. Time is saved by removing whole units, or by fewer bits.",
                    after=spoken(after.median), before=spoken(before.median), batch=batch, share=zeros,
                ),
            )  # fmt: skip
            return


def _tables(subject: Subject, plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """Scales or codebooks that cost more than the fewer bits save."""
    widths = {name: layer.width for name, layer in counts(subject, plan).layers.items()}
    for name, codes in plan.codes.items():
        part = seen.layers[name]
        saved = _saved(seen, name, codes.bits, widths[name])
        if codes.overhead >= saved > 0:
            yield Surprise(
                "table-larger-than-savings",
                say(
                    "{layer}: its scales or codebooks take {overhead:,} bytes, {bits} instead of {width} bits save {saved:,}: quantizing it makes it no smaller.",
                    layer=name,
                    overhead=codes.overhead,
                    bits=codes.bits,
                    width=widths[name],
                    saved=saved,
                ),
                name,
            )
        elif codes.overhead > 0.25 * part.total > 0 and part.scales + part.codebooks:
            share = (part.scales + part.codebooks) / part.total
            yield Surprise(
                "table-large",
                say(
                    "{layer}: {share:.0%} of its bytes are scales or codebooks; fewer of them (a scale a tensor or larger groups) would make it smaller.",
                    layer=name,
                    share=share,
                ),
                name,
            )


def _saved(seen: Explanation, name: str, bits: int, width: int) -> int:
    """Bytes that ``bits`` instead of ``width`` save in a layer's values as they are stored."""
    part = seen.layers[name]
    stored = part.weights * 8 // (bits if part.scales + part.codebooks else width)
    return stored * (width - bits) // 8


def _indices(subject: Subject, plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """Too few zeros to pay for saying where they are."""
    for name, layer in counts(subject, plan).layers.items():
        if name in plan.masks and layer.zeros_left >= 0.01 and seen.layers[name].form == "dense":
            bits = layer.bits if seen.layers[name].scales + seen.layers[name].codebooks else layer.width
            yield Surprise(
                "indices-cost-more",
                say(
                    "{layer}: {share:.0%} zeros do not pay for a list of where they are (a bit a weight, at least): storing all {entries:,} entries "
                    "at {bits} bits is the smallest.",
                    layer=name,
                    share=layer.zeros_left,
                    entries=layer.remaining,
                    bits=bits,
                ),
                name,
            )


def _graph(subject: Subject, plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """Small models: the file is mostly its graph."""
    for one in seen.files:
        if one.format.startswith("onnx") and one.bytes and not one.problem:
            weights = _stored(subject, plan, seen, one.format)
            if one.bytes > 2 * weights:
                yield Surprise(
                    "graph-larger-than-weights",
                    say(
                        "{file} has {bytes:,} bytes, of which weights are about {weights:,}: the rest is the graph (operators, names, shapes), which "
                        "no quantization makes smaller.",
                        file=one.file,
                        bytes=one.bytes,
                        weights=weights,
                    ),
                )


def _stored(subject: Subject, plan: Plan, seen: Explanation, format: str) -> int:
    """Bytes of weights, biases and buffers in an ONNX file, without scales."""
    total: float = seen.counted.rest
    for name, layer in counts(subject, plan).layers.items():
        codes = plan.codes.get(name)
        if format == "onnx" or _own_tables(codes):
            width = layer.width / 8
        else:
            width = 1.0 if format == "onnx-int8" or (codes is not None and codes.bits > 4) else 0.5
        total += layer.remaining * width
    return round(total)


def _own_tables(codes: Codes | None) -> bool:
    """Whether slices of a tensor have codebooks of their own."""
    return isinstance(codes, Table) and codes.scheme == "codebook" and codes.slices.count > 1


def _floats(seen: Explanation) -> Iterator[Surprise]:
    """Operators that a format leaves in floats."""
    for one in seen.files:
        for note in one.notes:
            yield Surprise("left-in-floats", note)


def _tables_in_floats(plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """Codebooks that differ between the slices of a tensor, which no ONNX operator looks up."""
    layers = [name for name, codes in plan.codes.items() if _own_tables(codes)]
    files = [one.file for one in seen.files if one.format in ("onnx-int8", "onnx-int4") and not one.problem]
    if layers and files:
        yield Surprise(
            "codebooks-in-floats",
            say(
                "{layers}: each channel, group or gate has a codebook of its own, and ONNX looks values up in one table a tensor. So {files} "
                "hold these weights as floats. One codebook a tensor is stored as codes and a table; packed stores any of them.",
                layers=", ".join(layers),
                files=", ".join(files),
            ),
        )


def _between(subject: Subject, plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """Products of two activations, which no rule for a weight's input rounds."""
    macs = count(subject, plan.dropped)
    share = sum(macs.between.values()) / macs.total if macs.total else 0.0
    if share and (plan.inputs or any(one.format == "onnx-int8" and not one.problem for one in seen.files)):
        yield Surprise(
            "attention-in-floats",
            say(
                "{share:.1%} of the multiply-accumulates are products of two activations: attention's scores (queries with keys) and their softmax "
                "with the values. A rule names an activation by the weight that multiplies it, and none does here: these products are computed in "
                "floats, in the simulation and in every file alike.",
                share=share,
            ),
        )


def _problems(seen: Explanation) -> Iterator[Surprise]:
    for one in seen.files:
        if one.problem:
            yield Surprise("no-file", say("{format}: no file: {problem}", format=one.format, problem=one.problem))
