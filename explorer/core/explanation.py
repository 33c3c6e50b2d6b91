"""Why a model is as large and as fast as it is, as values: each says how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .report import Kind


@dataclass(frozen=True)
class ByteParts:
    """Counted bytes of one tensor, or of a model, in the smallest representation.

    weights: values or codes. indices: bitmap or column indices and row pointers. scales: scales, zero points. codebooks:
    tables of values. rest: biases, normalization, buffers. form: dense, bitmap or csr.
    """

    weights: int = 0
    indices: int = 0
    scales: int = 0
    codebooks: int = 0
    rest: int = 0
    form: str = ""

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.indices + self.scales + self.codebooks + self.rest

    def __add__(self, other: ByteParts) -> ByteParts:
        weights, indices, scales, codebooks, rest = (
            a + b for a, b in zip(self._numbers(), other._numbers(), strict=True)
        )
        return ByteParts(weights, indices, scales, codebooks, rest)

    def _numbers(self) -> tuple[int, ...]:
        return self.weights, self.indices, self.scales, self.codebooks, self.rest


@dataclass(frozen=True)
class FileSize:
    """One exported file, measured: its bytes on disk and after ``gzip -9``; before: the same of the original.

    The original lies plainly in its own floats: an ONNX file beside ONNX formats, a safetensors file beside the others.
    format: the exporter's name. agreement: fraction of validation predictions that are the simulation's, where counted.
    problem: why there is no file, then the sizes are 0.
    """

    format: str
    file: str
    bytes: int = 0
    gzip: int = 0
    before: int = 0
    before_gzip: int = 0
    agreement: float | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Latency:
    """One run of a batch, measured: seconds; median, quartiles, number of runs.

    what: "original" or "compressed". format: the exporter whose file ran. engine: "ONNX Runtime" or "PyTorch". The runs of all
    variants of a batch size take turns, so that whatever else the machine does meets all alike.
    """

    what: str
    format: str
    engine: str
    batch: int
    median: float
    low: float
    high: float
    runs: int
    threads: int
    device: str


@dataclass(frozen=True)
class Energy:
    """Joules for one sample. kind: estimated from a table, or measured on a GPU. parts: {what: joules}.

    low, high: of an estimate the table's own range (DRAM), of a measurement the quartiles of its repetitions.
    """

    kind: Kind
    joules: float
    low: float
    high: float
    parts: Mapping[str, float]
    source: str
    device: str


@dataclass(frozen=True)
class RooflinePoint:
    """One layer at one batch size. intensity: FLOPs a byte moved (counted). flops: a second, measured; None if not run."""

    layer: str
    what: str
    batch: int
    work: int
    moved: int
    seconds: float | None = None

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.work / self.moved if self.moved else 0.0

    @property
    def flops(self) -> float | None:
        """FLOPs a second."""
        return self.work / self.seconds if self.seconds else None


@dataclass(frozen=True)
class Roofline:
    """A machine's measured peaks (FLOPs and bytes a second, fp32) and a model's layers under them.

    Source: Williams, Waterman, Patterson 2009, Roofline, doi 10.1145/1498765.1498785.
    """

    peak: float
    bandwidth: float
    points: tuple[RooflinePoint, ...]
    threads: int
    device: str

    @property
    def ridge(self) -> float:
        """FLOPs a byte from which computing, not memory, is the bound."""
        return self.peak / self.bandwidth

    def bound(self, intensity: float) -> float:
        """FLOPs a second that a layer of this intensity can reach."""
        return min(self.peak, self.bandwidth * intensity)


@dataclass(frozen=True)
class Surprise:
    """A sentence about something that may not be as expected. code: what kind, for tests and links; layer: where."""

    code: str
    text: str
    layer: str = ""


@dataclass(frozen=True)
class Explanation:
    """What a recipe made of a model's size and speed: counted, measured, estimated; and a sentence for each surprise.

    energy, measured_energy: of the original and of the compressed model, for one sample.
    """

    subject: str
    recipe: str
    counted: ByteParts
    counted_before: ByteParts
    layers: Mapping[str, ByteParts]
    files: tuple[FileSize, ...]
    macs: int | None
    macs_before: int | None
    latencies: tuple[Latency, ...]
    energy: tuple[Energy, Energy] | None
    measured_energy: tuple[Energy, Energy] | None
    roofline: Roofline | None
    surprises: tuple[Surprise, ...]

    def file(self, format: str) -> FileSize:
        """The file of a format; KeyError if it was not asked for."""
        for one in self.files:
            if one.format == format:
                return one
        raise KeyError(format)

    def latency(self, what: str, format: str, batch: int) -> Latency | None:
        """The measured latency of one variant; None where there is none."""
        found = [one for one in self.latencies if (one.what, one.format, one.batch) == (what, format, batch)]
        return found[0] if found else None

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain JSON values."""
        return asdict(self)
