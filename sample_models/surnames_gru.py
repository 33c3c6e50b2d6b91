"""A bidirectional GRU that guesses the language of a surname from its letters.

References:
- Cho et al.: Learning phrase representations using RNN encoder-decoder for statistical machine translation,
  EMNLP 2014, https://arxiv.org/abs/1406.1078 (the GRU).
- Schuster, Paliwal: Bidirectional recurrent neural networks, IEEE Trans. Signal Processing 45, 1997.
"""

from torch import Tensor, nn


class SurnamesGRU(nn.Module):
    """Embedding 64, one GRU of 96 units a direction, averaged over the letters; 100,688 parameters.

    The backward direction starts in the padding, so names are always padded to the same length, as in training.
    """

    def __init__(self, characters: int = 67, width: int = 64, hidden: int = 96, classes: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width, padding_idx=0)
        self.gru = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Character codes (B, 20) int64, 0 after the end -> logits (B, 16)."""
        valid = (x != 0).float().unsqueeze(-1)  # (B, T, 1)
        h, _ = self.gru(self.embedding(x))  # (B, T, 192)
        h = (h * valid).sum(1) / valid.sum(1).clamp(min=1)  # (B, 192)
        return self.head(h)  # (B, 16)
