"""LeNet-300-100: two hidden layers, the "hello world" of pruning.

References:
- LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, Proc. IEEE 86, 1998.
- Han, Pool, Tran, Dally: Learning both weights and connections for efficient neural networks, NeurIPS 2015,
  https://arxiv.org/abs/1506.02626 (its pruning example).
"""

from torch import Tensor, nn
from torch.nn import functional as F


class FashionMLP(nn.Module):
    """784 -> 300 -> 100 -> 10 with ReLU; 266,610 parameters."""

    def __init__(self, pixels: int = 784, hidden: tuple[int, int] = (300, 100), classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(pixels, hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.fc3 = nn.Linear(hidden[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 1, 28, 28) in [0, 1] -> logits (B, 10)."""
        x = x.flatten(1)  # (B, 784)
        x = F.relu(self.fc1(x))  # (B, 300)
        x = F.relu(self.fc2(x))  # (B, 100)
        return self.fc3(x)  # (B, 10)
