"""Two LSTM layers that recognize a speaker from the cepstrum of two vowels.

References:
- Hochreiter, Schmidhuber: Long short-term memory, Neural Computation 9, 1997.
- Kudo, Toyama, Shimbo: Multidimensional curve classification using passing-through regions, Pattern Recognition
  Letters 20, 1999 (the task).
"""

from torch import Tensor, nn
from torch.nn import functional as F


class VowelsLSTM(nn.Module):
    """Two layers of 64 units; the state after the last real frame is classified; 53,833 parameters."""

    def __init__(self, channels: int = 12, hidden: int = 64, layers: int = 2, classes: int = 9) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Frames (B, T, 12), all zeros after the end -> logits (B, 9)."""
        valid = (x != 0).any(-1).float()  # (B, T), ones up to the end
        last = valid - F.pad(valid[:, 1:], (0, 1))  # (B, T), a one at the last real frame only
        h, _ = self.lstm(x)  # (B, T, 64)
        h = (h * last.unsqueeze(-1)).sum(1)  # (B, 64)
        return self.head(h)  # (B, 9)
