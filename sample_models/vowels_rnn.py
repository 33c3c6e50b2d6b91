"""The classroom example: a recurrent network of twice ten units, small enough to draw every connection.

References:
- Elman: Finding structure in time, Cognitive Science 14, 1990 (the recurrent layer).
- Kudo, Toyama, Shimbo: Multidimensional curve classification using passing-through regions, Pattern Recognition
  Letters 20, 1999 (the task).
"""

from torch import Tensor, nn
from torch.nn import functional as F


class VowelsRNN(nn.Module):
    """Two tanh layers of 10 units; the state after the last real frame is classified; 559 parameters."""

    def __init__(self, channels: int = 12, hidden: int = 10, layers: int = 2, classes: int = 9) -> None:
        super().__init__()
        self.rnn = nn.RNN(channels, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Frames (B, T, 12), all zeros after the end -> logits (B, 9)."""
        valid = (x != 0).any(-1).float()  # (B, T), ones up to the end
        last = valid - F.pad(valid[:, 1:], (0, 1))  # (B, T), a one at the last real frame only
        h, _ = self.rnn(x)  # (B, T, 10)
        h = (h * last.unsqueeze(-1)).sum(1)  # (B, 10)
        return self.head(h)  # (B, 9)
