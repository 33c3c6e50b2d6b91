"""Nets of the zoo with grouped convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 12, 3, groups=2), nn.Conv2d(12, 6, 3)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.c(F.relu(self.b(torch.sigmoid(self.a(x)))))).amax((2, 3)))


class GroupedImage(nn.Module):
    """The groups read the image itself; the next ones are transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 8, 3, groups=2), nn.ConvTranspose2d(8, 6, 3, groups=2)
        self.bn, self.c, self.head = nn.BatchNorm2d(6), nn.ConvTranspose2d(6, 6, 2, groups=6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.bn(self.b(torch.sigmoid(self.a(x)))))
        return self.head(torch.sigmoid(self.c(x)).amax((2, 3)))


class DepthwiseMultiplier(nn.Module):
    """Two filters a channel: a channel goes with both."""

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3)
        self.depth = (nn.ConvTranspose2d if transposed else nn.Conv2d)(4, 8, 3, groups=4)
        self.fc, self.head = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.fc(torch.sigmoid(self.depth(self.stem(x))).mean((2, 3)))))


class ResNeXt(nn.Module):
    """A bottleneck of eight groups of two channels beside a skip. Xie et al. 2017, arXiv 1611.05431."""

    def __init__(self, groups: int = 8, width: int = 2) -> None:
        super().__init__()
        inner = groups * width
        self.stem, self.bn = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.conv1, self.bn1 = nn.Conv2d(6, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        h = torch.sigmoid(self.bn2(self.conv2(torch.sigmoid(self.bn1(self.conv1(x))))))
        return self.head(F.relu(x + self.bn3(self.conv3(h))).mean((2, 3)))


class ShuffleUnit(nn.Module):
    """Grouped 1 x 1 convolutions with a channel shuffle between. Zhang et al. 2018, arXiv 1707.01083."""

    def __init__(self, width: int, inner: int, groups: int, how: str) -> None:
        super().__init__()
        self.groups, self.how = groups, how
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 1, groups=groups, bias=False), nn.BatchNorm2d(inner)
        self.shuffle = nn.ChannelShuffle(groups)
        self.depth, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, width, 1, groups=groups, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(self.bn1(self.conv1(x)))
        if self.how == "module":
            h = self.shuffle(h)
        else:
            n, c, height, width = h.shape
            h = h.view(n, self.groups, c // self.groups, height, width).transpose(1, 2).reshape(n, c, height, width)
        return F.relu(x + self.bn3(self.conv3(self.bn2(self.depth(h)))))


class ShuffleNet(nn.Module):
    def __init__(self, how: str = "view") -> None:
        super().__init__()
        self.stem, self.unit1, self.unit2 = (
            nn.Conv2d(2, 8, 3),
            ShuffleUnit(8, 12, 2, how),
            ShuffleUnit(8, 12, 2, how),
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.unit2(self.unit1(F.relu(self.stem(x)))).mean((2, 3)))


class SplitShuffle(nn.Module):
    """One half passes, the other is worked on, then both are shuffled. Ma et al. 2018, arXiv 1807.11164."""

    def __init__(self, how: str = "view") -> None:
        super().__init__()
        self.how = how
        self.stem, self.conv1, self.conv2 = nn.Conv2d(2, 8, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.depth, self.head = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.stem(x))
        left, right = x.chunk(2, dim=1)
        x = torch.cat([left, torch.sigmoid(self.conv2(self.depth(torch.sigmoid(self.conv1(right)))))], 1)
        n, c, height, width = x.size()
        if self.how == "view":
            x = x.view(n, 2, c // 2, height, width).transpose(1, 2).contiguous().view(n, -1, height, width)
        else:
            x = torch.channel_shuffle(x, 2)
        return self.head(x.amax((2, 3)))
