"""Attention with any number of heads of any size, behind the interface of nn.MultiheadAttention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .absent import NESTED, OTHER, Absent


class PrunedAttention(nn.Module):
    """What remains of an nn.MultiheadAttention whose heads or widths were removed; called, and answering, as that one.

    nn.MultiheadAttention ties the sizes of its heads to its width, so that fewer heads of the same size do not fit into it.
    Parameters keep their names: ``in_proj_weight`` [3 * heads * head_dim, query_dim] (or ``q_proj_weight``, ``k_proj_weight``,
    ``v_proj_weight`` where fused is False), ``in_proj_bias`` [3 * heads * head_dim], ``out_proj.weight`` [embed_dim, heads * head_dim]
    and ``out_proj.bias`` [embed_dim]. Source: Vaswani et al. 2017, arXiv 1706.03762.
    """

    in_proj_weight: Tensor | None
    in_proj_bias: Tensor | None
    bias_k = bias_v = None
    add_zero_attn = False
    _qkv_same_embed_dim = False  # nn.TransformerEncoderLayer reads this: with it, its fast path is not taken

    def __init__(
        self, query_dim: int, embed_dim: int, num_heads: int, head_dim: int, kdim: int, vdim: int, dropout: float = 0.0,
        bias: bool = True, batch_first: bool = False, fused: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if fused and not query_dim == kdim == vdim:
            raise ValueError(f"one weight for queries, keys and values needs equal widths, not {query_dim}, {kdim}, {vdim}")
        self.query_dim, self.embed_dim, self.kdim, self.vdim = query_dim, embed_dim, kdim, vdim
        self.num_heads, self.head_dim, self.dropout, self.batch_first = num_heads, head_dim, dropout, batch_first
        inner = num_heads * head_dim
        sizes = {"in_proj_weight": (3 * inner, query_dim)} if fused else {}
        if not fused:
            sizes = {"q_proj_weight": (inner, query_dim), "k_proj_weight": (inner, kdim), "v_proj_weight": (inner, vdim)}
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            self.register_parameter(name, nn.Parameter(torch.zeros(sizes[name])) if name in sizes else None)
        self.register_parameter("in_proj_bias", nn.Parameter(torch.zeros(3 * inner)) if bias else None)
        self.out_proj = nn.Linear(inner, embed_dim, bias=bias)

    @classmethod
    def like(cls, module: Any) -> PrunedAttention:
        """One that takes over the (already cut) tensors of an nn.MultiheadAttention or of another one of these."""
        fused = module.in_proj_weight is not None
        first = module.in_proj_weight if fused else module.q_proj_weight
        query_dim = first.shape[1]
        kdim, vdim = (query_dim, query_dim) if fused else (module.k_proj_weight.shape[1], module.v_proj_weight.shape[1])
        heads = len(first) // (3 * module.head_dim if fused else module.head_dim)
        with torch.device("meta"):  # its tensors are replaced at once
            made = cls(
                query_dim, len(module.out_proj.weight), heads, module.head_dim, kdim, vdim, module.dropout,
                module.in_proj_bias is not None, module.batch_first, fused,
            )  # fmt: skip
        for name, parameter in module.named_parameters():
            owner, _, last = name.rpartition(".")
            setattr(made.get_submodule(owner), last, parameter)
        return made.train(module.training)

    def _projections(self) -> list[tuple[Tensor, Tensor | None]]:
        """Weight and bias of queries, keys, values."""
        weights: tuple[Any, ...] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return list(zip(weights, biases, strict=True))

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values [N, L, heads * head_dim]."""
        inputs = zip((query, key, value), self._projections(), strict=True)
        return [F.linear(x, w, b) for x, (w, b) in inputs]

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None, need_weights: bool = True,
        attn_mask: Tensor | None = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """As nn.MultiheadAttention: (output, weights or None); weights are averaged over the heads that remain."""
        if is_causal and attn_mask is None:
            raise ValueError("is_causal says of which kind attn_mask is: it needs one")
        batched = query.dim() == 3
        if not batched:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        parts = self._project(query, key, value)
        q, k, v = (one.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for one in parts)
        hint = is_causal and key_padding_mask is None and not need_weights  # trusted as nn.MultiheadAttention does
        mask = None if hint else self._mask(attn_mask, key_padding_mask, q.dtype)
        out, weights = self._attend(q, k, v, mask, hint, need_weights)
        out = self.out_proj(out.transpose(1, 2).flatten(-2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return out.squeeze(0), weights if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """softmax(q k^T / sqrt(d) + mask) v of [N, heads, L, d]."""
        p = self.dropout if self.training else 0.0
        if not need_weights:
            return F.scaled_dot_product_attention(q, k, v, mask, p, causal), None
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)
        weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), p, self.training)
        return weights @ v, weights

    def _mask(self, attention: Tensor | None, padding: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Both masks as one that is added to the scores, broadcast to [N, heads, L, S]; bool: True is left out."""
        found = []
        if attention is not None:
            found.append(attention if attention.dim() == 2 else attention.unflatten(0, (-1, self.num_heads)))
        if padding is not None:
            found.append(padding[:, None, None, :])
        added = [torch.zeros_like(m, dtype=dtype).masked_fill(m, -math.inf) if m.dtype == torch.bool else m for m in found]
        return sum(added[1:], added[0]) if added else None

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, num_heads={self.num_heads}, head_dim={self.head_dim}, batch_first={self.batch_first}"


class PrunedEncoderLayer(nn.TransformerEncoderLayer):
    """An nn.TransformerEncoderLayer around a :class:`PrunedAttention`; it computes without the fused kernel.

    attention, feed_forward: False where that branch was taken out: x + 0, normalized after it where norm_first is False.
    """

    def __init__(
        self, d_model: int, num_heads: int, head_dim: int, dim_feedforward: int, dropout: float, activation: str,
        layer_norm_eps: float, batch_first: bool, norm_first: bool, bias: bool, attention: bool = True, feed_forward: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(d_model, 1, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        if attention:
            self.self_attn = PrunedAttention(  # type: ignore[assignment]
                d_model, d_model, num_heads, head_dim, d_model, d_model, dropout, bias, batch_first
            )
        else:
            self.self_attn = Absent((NESTED, 2, 3, OTHER))  # type: ignore[assignment]
            self.self_attn.batch_first = batch_first
            if norm_first:
                self.norm1 = Absent((3,))  # type: ignore[assignment]
        if not feed_forward:
            self.linear1, self.linear2 = Absent((3,)), Absent((3,))  # type: ignore[assignment]
            if norm_first:
                self.norm2 = Absent((3,))  # type: ignore[assignment]

    @classmethod
    def become(cls, module: nn.TransformerEncoderLayer) -> None:
        """Make a layer one of these, in place."""
        if isinstance(module.self_attn, nn.MultiheadAttention):
            module.self_attn = PrunedAttention.like(module.self_attn)  # type: ignore[assignment]
        module.__class__ = cls


class PrunedEncoder(nn.TransformerEncoder):
    """An nn.TransformerEncoder whose layers have sizes of their own."""

    def __init__(self, layers: Sequence[nn.Module], norm: nn.Module | None = None, enable_nested_tensor: bool = False) -> None:
        nn.Module.__init__(self)
        if not layers:
            raise ValueError("an encoder needs a layer")
        self.layers, self.num_layers, self.norm = nn.ModuleList(layers), len(layers), norm
        self.enable_nested_tensor = self.use_nested_tensor = enable_nested_tensor
        self.mask_check = True

    @classmethod
    def become(cls, module: nn.TransformerEncoder) -> None:
        """Make an encoder one of these, in place. Nested tensors need the fused kernel, so they go with the first head."""
        module.__class__ = cls
        if any(isinstance(layer, PrunedEncoderLayer) for layer in module.layers):
            module.use_nested_tensor = False
