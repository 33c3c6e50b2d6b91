"""A small Vision Transformer: an image is 16 patches of 7 x 7 pixels, read by four blocks of attention.

References:
- Dosovitskiy et al.: An image is worth 16x16 words, ICLR 2021, https://arxiv.org/abs/2010.11929.
- Vaswani et al.: Attention is all you need, NeurIPS 2017, https://arxiv.org/abs/1706.03762.
- Xiong et al.: On layer normalization in the Transformer architecture, ICML 2020,
  https://arxiv.org/abs/2002.04745 (normalization before each sub-layer).
- Hendrycks, Gimpel: Gaussian error linear units, 2016, https://arxiv.org/abs/1606.08415.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention. The head size follows from the width of q, so whole heads can be cut out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)
        k = self.k(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)
        v = self.v(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)
        h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, N, D / heads)
        return self.out(h.transpose(1, 2).flatten(2))  # (B, N, D)


class Block(nn.Module):
    """Attention and a feed-forward network, each on a normalized input and added to its own input."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class FashionViT(nn.Module):
    """Four blocks of width 64 with 4 heads and 128 feed-forward units, averaged over the patches;
    138,890 parameters."""

    def __init__(
        self, width: int = 64, heads: int = 4, hidden: int = 128, depth: int = 4, patch: int = 7, classes: int = 10
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, (28 // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 1, 28, 28) in [0, 1] -> logits (B, 10)."""
        x = self.patches(x).flatten(2).transpose(1, 2)  # (B, 16, 64)
        x = self.blocks(x + self.position)  # (B, 16, 64)
        x = self.norm(x).mean(1)  # (B, 64)
        return self.head(x)  # (B, 10)
