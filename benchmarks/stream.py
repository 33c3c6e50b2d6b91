"""Streaming a 2 GB checkpoint against this machine's read bandwidth, cold and warm; memory; the command line's answer.

    python -m benchmarks.stream [--gigabytes 2] [--dtype bf16] [--folder DIR]

Makes the file, measures, deletes it. Cold means that the page cache holds none of the file, which is looked up (mincore).
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

BLOCK = 8 << 20
WIDTH = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1, "int8": 1}
NAMES = {"bf16": "BF16", "fp16": "F16", "fp32": "F32", "fp8": "F8_E4M3", "int8": "I8"}


def make(path: Path, size: int, dtype: str) -> int:
    """A checkpoint like a decoder's: matrices of 32 MB, and vectors; normal weights. Its bytes."""
    import json
    import struct

    width, rng = WIDTH[dtype], np.random.default_rng(0)
    rows, at = {}, 0
    while at < size:
        for name, shape in (
            (f"layers.{len(rows)}.weight", (4096, 4096 * 2 // width)),
            (f"layers.{len(rows)}.norm.weight", (4096,)),
        ):
            n = int(np.prod(shape)) * width
            rows[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + n]}
            at += n
    text = json.dumps(rows).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for row in rows.values():
            values = rng.standard_normal(int(np.prod(row["shape"])), dtype=np.float32) * np.float32(0.02)
            file.write(_bits(values, dtype).tobytes())
        file.flush()
        os.fsync(file.fileno())
    return path.stat().st_size


def _bits(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "fp32":
        return values
    if dtype == "fp16":
        return values.astype(np.float16)
    if dtype == "bf16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return np.clip(values * 1000, -100, 100).astype(np.int8)


def resident(path: Path) -> float:
    """The share of a file that the page cache holds."""
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_PRIVATE) as view,
    ):
        held = (ctypes.c_ubyte * pages)()
        start = ctypes.addressof(ctypes.c_char.from_buffer(view))
        if ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), held):
            return float("nan")
        return float(np.mean(np.frombuffer(held, np.uint8) & 1))


def chill(path: Path) -> None:
    """Take the file out of the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path, threads: int) -> None:
    """All of a file, into buffers that are reused."""
    size = path.stat().st_size

    def some(first: int) -> None:
        buffer = bytearray(BLOCK)
        with path.open("rb", buffering=0) as file:
            for start in range(first * BLOCK, size, threads * BLOCK):
                file.seek(start)
                file.readinto(buffer)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, range(threads)))


def timed(path: Path, cold: bool, run: Callable[[], object], times: int = 3) -> float:
    """The best of some runs, in seconds."""
    found = []
    for _ in range(times):
        if cold:
            chill(path)
            held = resident(path)
            if held > 0.01:
                print(f"  (not cold: {held:.0%} of the file is in memory)")
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


def child(path: Path) -> None:
    """Stream in this process, after a look at a small piece; memory and seconds of each run."""
    from explorer.files.sources import checkpoint
    from explorer.files.stream import tallies

    source = checkpoint(path)
    small = next(name for name, entry in source.entries.items() if entry.numel < 10_000)
    list(tallies(source, [small]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def run() -> None:
        for _ in tallies(source):
            pass

    for cold in (True, False):
        print("cold" if cold else "warm", timed(path, cold, run))
    print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, before)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--dtype", choices=WIDTH, default="bf16")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", type=Path)
    given = parser.parse_args()
    if given.child:
        child(given.child)
        return
    with tempfile.TemporaryDirectory(prefix="explorer-stream-", dir=given.folder) as folder:
        path = Path(folder) / "model.safetensors"
        size = make(path, int(given.gigabytes * 1e9), given.dtype)
        print(f"{size / 1e9:.2f} GB of {given.dtype}, {os.cpu_count()} cores")
        best = {}
        for cold in (True, False):
            name = "cold" if cold else "warm"
            speeds = {n: size / timed(path, cold, lambda n=n: read(path, n), 2) / 1e9 for n in (1, 4, 8)}  # type: ignore[misc]
            best[name] = max(speeds.values())
            print(f"read {name}: " + ", ".join(f"{n} threads {speed:.2f} GB/s" for n, speed in speeds.items()))
        out = subprocess.run(
            [sys.executable, "-m", "benchmarks.stream", "--child", str(path)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for line in out.splitlines():
            name, *values = line.split()
            if name in best:
                speed = size / float(values[0]) / 1e9
                aim = 0.6 if name == "cold" else 0.3
                print(
                    f"histograms {name}: {speed:.2f} GB/s, {speed / best[name]:.0%} of the bandwidth (aim: {aim:.0%})"
                )
            elif name == "memory":
                print(
                    f"memory above the interpreter with its libraries ({int(values[1]) / 1024:.0f} MB): {int(values[0]) / 1024:.0f} MB (aim: 500)"
                )
            else:
                print(line)
        for options in (["--header"], []):
            chill(path)
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "explorer", "inspect", str(path), *options], capture_output=True, check=True
            )
            print(f"inspect {' '.join(options)}: {time.perf_counter() - began:.1f} s, cold")


if __name__ == "__main__":
    main()
