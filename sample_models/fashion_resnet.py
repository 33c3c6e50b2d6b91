"""A small residual network: a stem, three blocks, global average pooling.

References:
- He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016, https://arxiv.org/abs/1512.03385.
- Ioffe, Szegedy: Batch normalization, ICML 2015, https://arxiv.org/abs/1502.03167.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a skip, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.skip = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return F.relu(h + self.skip(x))


class FashionResNet(nn.Module):
    """Two blocks that halve the image and double the channels, one that keeps both; 147,066 parameters."""

    def __init__(self, channels: tuple[int, int, int] = (16, 32, 64), classes: int = 10) -> None:
        super().__init__()
        first, second, third = channels
        self.stem = nn.Conv2d(1, first, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(first)
        self.b1 = Block(first, second, stride=2)
        self.b2 = Block(second, third, stride=2)
        self.b3 = Block(third, third, stride=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(third, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 1, 28, 28) in [0, 1] -> logits (B, 10)."""
        x = F.relu(self.bn(self.stem(x)))  # (B, 16, 28, 28)
        x = self.b1(x)  # (B, 32, 14, 14)
        x = self.b2(x)  # (B, 64, 7, 7)
        x = self.b3(x)  # (B, 64, 7, 7)
        x = self.pool(x).flatten(1)  # (B, 64)
        return self.head(x)  # (B, 10)
