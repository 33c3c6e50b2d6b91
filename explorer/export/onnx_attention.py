"""Attention as few ONNX nodes: torch.onnx swaps two dims of the keys by nine, which cost a small model more than its products."""

from __future__ import annotations

import math
from typing import Any


def attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """softmax(q k^T * scale) v of [N, heads, L, d], for torch.onnx's table of translations; with a mask, torch's own is used.

    Source: Vaswani et al. 2017, arXiv 1706.03762.
    """
    from onnxscript import opset20
    from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention as general

    op: Any = opset20
    size = query.shape[-1] if query.shape is not None else None
    plain = attn_mask is None and not is_causal and not dropout_p and not enable_gqa
    if not plain or not isinstance(size, int) or key.shape is None or not len(query.shape) == len(key.shape) == 4:
        return general(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    factor = op.CastLike(op.Constant(value_float=1 / math.sqrt(size) if scale is None else scale), query)
    scores = op.MatMul(op.Mul(query, factor), op.Transpose(key, perm=[0, 1, 3, 2]))
    return op.MatMul(op.Softmax(scores, axis=-1), value)
