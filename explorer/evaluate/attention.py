"""Attention of few tokens by our own compiled loops, where these apply; else torch's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

WORK = 1024  # tokens times channels of a head: above, torch's blocks of queries are as fast
THREADS = 2  # above, torch's is faster, which shares the samples out among them
WIDTH = 16  # of which a head's channels are a multiple
DTYPES = (torch.float32, torch.bfloat16)


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """As torch.nn.functional.scaled_dot_product_attention. query, key, value [N, heads, tokens, channels]."""
    plain = attn_mask is None and not dropout_p and not is_causal and not enable_gqa
    if plain and _serves(query, key, value):
        return _compiled(query, key, value, query.shape[-1] ** -0.5 if scale is None else scale)
    return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)


def _serves(query: Tensor, *more: Tensor) -> bool:
    """Whether the loops take these: all of one shape and type, few tokens, on a CPU, of which no gradient is asked."""
    shape, graded = query.shape, torch.is_grad_enabled()
    fits = len(shape) == 4 and query.numel() > 0 and shape[2] * shape[3] <= WORK and not shape[3] % WIDTH
    return fits and query.dtype in DTYPES and torch.get_num_threads() <= THREADS and all(
        one.is_cpu and one.shape == shape and one.dtype is query.dtype and one.stride(3) == 1 and not (graded and one.requires_grad)
        for one in (query, *more)
    )


def _compiled(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    from ..analysis.attention_loops import attend  # numba takes a moment to import

    samples, heads, tokens, channels = query.shape
    out = query.new_empty(samples, tokens, heads, channels).transpose(1, 2)  # heads side by side, as their projection reads them
    steps = tuple(step for one in (query, key, value, out) for step in one.stride()[:3])
    attend(_flat(query), _flat(key), _flat(value), _flat(out), steps, (samples, heads, tokens, channels), scale)
    return out


def _flat(x: Tensor) -> Any:
    """All memory from a tensor's first entry to its last, in one dimension."""
    size = 1 + sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    line = x.detach().as_strided((size,), (1,))
    return (line.view(torch.uint16) if x.dtype is torch.bfloat16 else line).numpy()


def lay(graph: fx.Graph) -> bool:
    """Let a graph's attentions be computed so; whether there was one."""
    found = False
    for node in graph.nodes:
        if node.op == "call_function" and node.target is F.scaled_dot_product_attention:
            node.target, found = attention, True
    return found
