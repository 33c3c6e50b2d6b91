"""A regression network: bikes rented in an hour, from the time and the weather.

References:
- Fanaee-T, Gama: Event labeling combining ensemble detectors and background knowledge, Progress in Artificial
  Intelligence 2, 2013, https://doi.org/10.1007/s13748-013-0040-3 (the task).
- Nair, Hinton: Rectified linear units improve restricted Boltzmann machines, ICML 2010.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class BikesMLP(nn.Module):
    """57 -> 128 -> 64 -> 1 with ReLU; 15,745 parameters. The output is a number of bikes, not standardized."""

    def __init__(self, features: int = 57, hidden: tuple[int, int] = (128, 64)) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.head = nn.Linear(hidden[1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 57) -> bikes (B, 1)."""
        x = F.relu(self.fc1(x))  # (B, 128)
        x = F.relu(self.fc2(x))  # (B, 64)
        return self.head(x)  # (B, 1)
