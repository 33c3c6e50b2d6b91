"""How much faster than torch's kernel attention of few tokens is by our compiled loops: medians of turns in one process, one thread.

python benchmarks/attention.py [--samples 256] [--repeats 60]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import explorer  # noqa: E402, F401 (asks for huge pages)
from explorer.evaluate.attention import attention  # noqa: E402

SHAPES = ((4, 5, 16), (4, 8, 32), (4, 16, 16), (4, 17, 16), (2, 32, 32), (4, 16, 64), (4, 64, 16))  # heads, tokens, channels; fashion-vit: the third


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=60)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'dtype':9} {'heads':>6} {'tokens':>6} {'channels':>8} {'torch ms':>9} {'ours ms':>8} {'ratio':>7} {'largest difference':>19}")
    for dtype in (torch.float32, torch.bfloat16):
        for heads, tokens, channels in SHAPES:
            made = [torch.randn(given.samples, tokens, heads, channels).to(dtype).transpose(1, 2) for _ in range(3)]
            times: dict[str, list[float]] = {"torch": [], "ours": []}
            with torch.inference_mode():
                for i in range(given.repeats + 3):
                    for name, run in (("torch", F.scaled_dot_product_attention), ("ours", attention)):
                        began = time.thread_time()
                        run(*made)
                        if i >= 3:
                            times[name].append(1000 * (time.thread_time() - began))
                apart = (attention(*made) - F.scaled_dot_product_attention(*made)).abs().max().item()
            theirs, ours = (statistics.median(times[name]) for name in ("torch", "ours"))
            kind = str(dtype).removeprefix("torch.")
            print(f"{kind:9} {heads:>6} {tokens:>6} {channels:>8} {theirs:>9.2f} {ours:>8.2f} {theirs / ours:>6.1f}x {apart:>19.1e}", flush=True)


if __name__ == "__main__":
    main()
