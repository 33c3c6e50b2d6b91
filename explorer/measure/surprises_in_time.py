"""Sentences for runs that are not as fast as expected, each drawn from the measured figures."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.explanation import Explanation, Latency, Surprise
from ..core.message import say

SAME = 0.05  # of a ratio: less is no difference
CALL = 50e-6  # seconds below which starting a run costs as much as running


def in_time(seen: Explanation) -> Iterator[Surprise]:
    """One for each thing that holds; the order is that of importance."""
    yield from _four_bits(seen)
    yield from _slower(seen)
    yield from _small(seen)
    yield from _removed(seen)


def _four_bits(seen: Explanation) -> Iterator[Surprise]:
    """4-bit weights that cost time."""
    for batch in batches(seen):
        plain, four = _plain(seen, batch), seen.latency("compressed", "onnx-int4", batch)
        if plain and four and four.median > plain.median * (1 + SAME) and not _overlap(four, plain):
            yield Surprise(
                "int4-not-faster",
                say(
                    "4-bit weights are made floats again whenever the model runs: a batch of {batch} takes {four} instead of {plain}. They save memory and "
                    "disk, and time only where reading weights is what takes it (large language models).",
                    batch=batch,
                    four=spoken(four.median),
                    plain=spoken(plain.median),
                ),
            )
            return


def _plain(seen: Explanation, batch: int) -> Latency | None:
    """What integers are compared with: the same model in fp32; the original, where activations are rounded and no such file is."""
    return seen.latency("compressed", "onnx", batch) or seen.latency("original", "onnx", batch)


def _slower(seen: Explanation) -> Iterator[Surprise]:
    """Integers that are not faster, at one batch size or at all."""
    pairs = {batch: (_plain(seen, batch), seen.latency("compressed", "onnx-int8", batch)) for batch in batches(seen)}
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
                time=spoken(one.median),
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
                a=f"{spoken(one.low)}–{spoken(one.high)}",
                b=f"{spoken(was.low)}–{spoken(was.high)}",
            ),
        )


def _overlap(a: Latency, b: Latency) -> bool:
    return a.device == b.device and a.low <= b.high and b.low <= a.high


def _removed(seen: Explanation) -> Iterator[Surprise]:
    """Fewer products than time saved."""
    fewer = 1 / kept(seen)
    batch = batches(seen)[-1:] or [0]
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


def kept(seen: Explanation) -> float:
    """MACs that are left of the original's: below 1 where units are gone."""
    return seen.macs / seen.macs_before if seen.macs and seen.macs_before else 1.0


def batches(seen: Explanation) -> list[int]:
    """Batch sizes that were timed, ascending."""
    return sorted({one.batch for one in seen.latencies})


def spoken(seconds: float) -> str:
    """Seconds as people read them."""
    return f"{1e6 * seconds:.0f} µs" if seconds < 1e-3 else f"{1e3 * seconds:.2f} ms"
