"""LeNet-5 in the variant of Caffe, the one that the pruning literature compares on.

References:
- LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, Proc. IEEE 86, 1998.
- Caffe's examples/mnist/lenet.prototxt: 20 and 50 channels, max pooling, one ReLU, after the first linear layer.
- Han, Pool, Tran, Dally: Learning both weights and connections for efficient neural networks, NeurIPS 2015,
  https://arxiv.org/abs/1506.02626.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class FashionLeNet5(nn.Module):
    """Two 5 x 5 convolutions and two linear layers; 431,080 parameters, 400,500 of them in fc1."""

    def __init__(self, channels: tuple[int, int] = (20, 50), hidden: int = 500, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels[0], 5)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 5)
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(channels[1] * 4 * 4, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 1, 28, 28) in [0, 1] -> logits (B, 10)."""
        x = self.pool1(self.conv1(x))  # (B, 20, 12, 12)
        x = self.pool2(self.conv2(x))  # (B, 50, 4, 4)
        x = F.relu(self.fc1(x.flatten(1)))  # (B, 500)
        return self.fc2(x)  # (B, 10)
