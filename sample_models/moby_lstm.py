"""A character language model of Moby-Dick: two LSTM layers predict the next character.

References:
- Hochreiter, Schmidhuber: Long short-term memory, Neural Computation 9, 1997.
- Graves: Generating sequences with recurrent neural networks, 2013, https://arxiv.org/abs/1308.0850.
"""

from torch import Tensor, nn


class MobyLSTM(nn.Module):
    """Embedding 64, two LSTM layers of 192 units, logits over 83 characters; 515,923 parameters."""

    def __init__(self, characters: int = 83, width: int = 64, hidden: int = 192, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, characters)

    def forward(self, x: Tensor) -> Tensor:
        """Characters (B, T) int64 -> logits of the character after each, (B, T, 83)."""
        h, _ = self.lstm(self.embedding(x))  # (B, T, 192)
        return self.head(h)  # (B, T, 83)
