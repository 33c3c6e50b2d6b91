"""Sentences for what may not be as expected, each drawn from the figures beside it."""

from __future__ import annotations

from collections.abc import Iterator

from ..compress.plan import Plan
from ..core.explanation import Explanation, Latency, Surprise
from ..core.message import say
from ..evaluate.costs import counts
from ..models.subject import Subject

SPARSE = 0.3  # fraction of zeros from which a gain would be expected
SAME = 0.05  # of a ratio: less is no difference
CALL = 50e-6  # seconds below which starting a run costs as much as running
FP32 = 32


def surprises(subject: Subject, plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """One for each thing that holds; the order is that of importance."""
    yield from _zeros(subject, plan, seen)
    yield from _tables(plan, seen)
    yield from _indices(subject, plan, seen)
    yield from _graph(seen)
    yield from _floats(seen)
    yield from _slower(seen)
    yield from _small(seen)
    yield from _removed(seen)
    yield from _problems(seen)


def _zeros(subject: Subject, plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """Zeros take their place in a dense file and their time in a dense product."""
    zeros = counts(subject, plan).zeros_left
    if zeros < SPARSE:
        return
    dense = [
        one
        for one in seen.files
        if one.format in ("safetensors", "onnx", "pt2") and one.bytes > 0.9 * one.before * _kept(seen)
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
    for batch in _batches(seen):
        before, after = seen.latency("original", "onnx", batch), seen.latency("compressed", "onnx", batch)
        if before and after and _kept(seen) > 0.95 and before.median / after.median < 1 + 2 * SAME:
            yield Surprise(
                "zeros-not-faster",
                say(
                    "ONNX Runtime takes {after} for a batch of {batch} with {share:.0%} zeros, and {before} without: its kernels are "
                    "dense and multiply zeros like any number. Time is saved by removing whole units, or by fewer bits.",
                    after=_time(after.median), before=_time(before.median), batch=batch, share=zeros,
                ),
            )  # fmt: skip
            return


def _kept(seen: Explanation) -> float:
    """MACs that are left of the original's: below 1 where units are gone."""
    return seen.macs / seen.macs_before if seen.macs and seen.macs_before else 1.0


def _tables(plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """Scales or codebooks that cost more than the fewer bits save."""
    for name, codes in plan.codes.items():
        part = seen.layers[name]
        saved = _saved(seen, name, codes.bits)
        if codes.overhead >= saved > 0:
            yield Surprise(
                "table-larger-than-savings",
                say(
                    "{layer}: its scales or codebooks take {overhead:,} bytes, {bits} instead of 32 bits save {saved:,}: quantizing it makes it no smaller.",
                    layer=name,
                    overhead=codes.overhead,
                    bits=codes.bits,
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


def _saved(seen: Explanation, name: str, bits: int) -> int:
    """Bytes that ``bits`` instead of 32 save in a layer's values as they are stored."""
    part = seen.layers[name]
    stored = part.weights * 8 // (bits if part.scales + part.codebooks else FP32)
    return stored * (FP32 - bits) // 8


def _indices(subject: Subject, plan: Plan, seen: Explanation) -> Iterator[Surprise]:
    """Too few zeros to pay for saying where they are."""
    for name, layer in counts(subject, plan).layers.items():
        if name in plan.masks and layer.zeros_left >= 0.01 and seen.layers[name].form == "dense":
            bits = layer.bits if seen.layers[name].scales + seen.layers[name].codebooks else FP32
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


def _graph(seen: Explanation) -> Iterator[Surprise]:
    """Small models: the file is mostly its graph."""
    for one in seen.files:
        if one.format.startswith("onnx") and one.bytes and not one.problem:
            weights = (
                {"onnx": 32, "onnx-int8": 8, "onnx-int4": 4}.get(one.format, 32)
                / 32
                * seen.counted_before.total
                * _kept(seen)
            )
            if one.bytes > 2 * weights:
                yield Surprise(
                    "graph-larger-than-weights",
                    say(
                        "{file} has {bytes:,} bytes, of which weights are about {weights:,}: the rest is the graph (operators, names, shapes), which "
                        "no quantization makes smaller.",
                        file=one.file,
                        bytes=one.bytes,
                        weights=round(weights),
                    ),
                )


def _floats(seen: Explanation) -> Iterator[Surprise]:
    """Operators that a format leaves in floats."""
    for one in seen.files:
        for note in one.notes:
            yield Surprise("left-in-floats", note)
    quantized = {one.format for one in seen.files if one.format == "onnx-int4" and not one.problem}
    for batch in _batches(seen)[:1] if quantized else ():
        plain, four = seen.latency("compressed", "onnx", batch), seen.latency("compressed", "onnx-int4", batch)
        if plain and four and four.median > plain.median * (1 + SAME):
            yield Surprise(
                "int4-not-faster",
                say(
                    "4-bit weights are made floats again whenever the model runs: a batch of {batch} takes {four} instead of {plain}. They save memory and "
                    "disk, and time only where reading weights is what takes it (large language models).",
                    batch=batch,
                    four=_time(four.median),
                    plain=_time(plain.median),
                ),
            )


def _slower(seen: Explanation) -> Iterator[Surprise]:
    """Integers that are not faster, at one batch size or at all."""
    pairs = {
        batch: (seen.latency("compressed", "onnx", batch), seen.latency("compressed", "onnx-int8", batch))
        for batch in _batches(seen)
    }
    gains = {batch: a.median / b.median for batch, (a, b) in pairs.items() if a and b}
    if not gains:
        return
    first, last = min(gains), max(gains)
    if gains[last] > 1 + 2 * SAME and gains[first] < 1 + SAME and first != last:
        yield Surprise(
            "batch-too-small",
            say(
                "8-bit integers gain {many:.2f}x at a batch of {last} and {one:.2f}x at {first}: so small a run is mostly calls and rounding of inputs, "
                "not products. The batch is too small to show what the kernels gain.",
                many=gains[last],
                one=gains[first],
                last=last,
                first=first,
            ),
        )
    elif gains[last] < 1 + SAME:
        yield Surprise(
            "int8-not-faster",
            say(
                "8-bit integers are no faster than fp32 at a batch of {batch} ({ratio:.2f}x its time): rounding the inputs costs more here than the products save, "
                "or operators without an integer kernel (GRU, RNN, normalization) take most of the time.",
                ratio=1 / gains[last],
                batch=last,
            ),
        )


def _small(seen: Explanation) -> Iterator[Surprise]:
    """Runs so short that the call is what is measured; spreads that hide a difference."""
    short = [one for one in seen.latencies if one.engine == "ONNX Runtime" and one.median < CALL]
    if short:
        one = min(short, key=lambda item: item.median)
        yield Surprise(
            "call-dominates",
            say(
                "A batch of {batch} takes {time}: at this length the call itself is a large part, and fewer products hardly show.",
                batch=one.batch,
                time=_time(one.median),
            ),
        )
    pairs = [
        (one, seen.latency("original", one.format, one.batch)) for one in seen.latencies if one.what == "compressed"
    ]
    doubtful = [
        (one, was) for one, was in pairs if was and _overlap(one, was) and abs(one.median / was.median - 1) > 2 * SAME
    ]
    if doubtful:
        one, was = max(doubtful, key=lambda pair: abs(pair[0].median / pair[1].median - 1))
        yield Surprise(
            "spread-hides-it",
            say(
                "{format}, batch {batch}: the quartiles of the two overlap ({a} and {b}), so this difference may be the machine's noise.",
                format=one.format,
                batch=one.batch,
                a=f"{_time(one.low)}–{_time(one.high)}",
                b=f"{_time(was.low)}–{_time(was.high)}",
            ),
        )


def _overlap(a: Latency, b: Latency) -> bool:
    return a.device == b.device and a.low <= b.high and b.low <= a.high


def _removed(seen: Explanation) -> Iterator[Surprise]:
    """Fewer products than time saved."""
    fewer = 1 / _kept(seen)
    batch = _batches(seen)[-1:] or [0]
    before, after = seen.latency("original", "onnx", batch[0]), seen.latency("compressed", "onnx", batch[0])
    if fewer > 1.2 and before and after and before.median / after.median < 0.8 * fewer:
        yield Surprise(
            "macs-are-not-time",
            say(
                "{fewer:.1f}x fewer multiply-accumulates make a batch of {batch} only {gain:.1f}x faster: what is not a product (normalization, "
                "activations, moving data) stays, and narrow layers use the processor's vectors less well.",
                fewer=fewer,
                batch=batch[0],
                gain=before.median / after.median,
            ),
        )


def _problems(seen: Explanation) -> Iterator[Surprise]:
    for one in seen.files:
        if one.problem:
            yield Surprise("no-file", say("{format}: no file: {problem}", format=one.format, problem=one.problem))


def _batches(seen: Explanation) -> list[int]:
    return sorted({one.batch for one in seen.latencies})


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} µs" if seconds < 1e-3 else f"{1e3 * seconds:.2f} ms"
