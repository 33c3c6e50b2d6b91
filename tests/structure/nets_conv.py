"""Convolutional and linear nets of the zoo."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Sigmoid(), nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


class DepthwiseSeparable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.depth1, self.bn1, self.point1 = (
            nn.Conv2d(6, 6, 3, padding=1, groups=6),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 8, 1),
        )
        self.depth2, self.bn2, self.point2 = (
            nn.Conv2d(8, 8, 3, stride=2, groups=8),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 6, 1),
        )
        self.head = nn.Linear(6 * 3 * 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(x))
        x = F.relu6(self.point1(torch.sigmoid(self.bn1(self.depth1(x)))))
        return self.head(torch.flatten(torch.sigmoid(self.point2(self.bn2(self.depth2(x)))), 1))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(7, 3, 3, padding=1)
        self.bn, self.c = nn.BatchNorm2d(10), nn.Conv2d(10, 5, 1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.stem(x))
        x = torch.cat([x, torch.sigmoid(self.a(x))], 1)
        x = torch.cat([x, torch.sigmoid(self.b(x))], 1)
        return self.head(F.adaptive_avg_pool2d(F.relu(self.c(F.silu(self.bn(x)))), 1).flatten(1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.bn1, self.bn2, self.head = nn.BatchNorm2d(5), nn.BatchNorm2d(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.bn2(self.b(torch.sigmoid(self.bn1(self.a(x))))) + x)
        return self.head(x.mean(dim=(2, 3)))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.up, self.mix, self.out = nn.ConvTranspose2d(6, 4, 2, 2), nn.Conv2d(8, 5, 3, padding=1), nn.Conv2d(5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.sigmoid(self.down1(x))
        b = torch.sigmoid(self.down2(F.max_pool2d(a, 2)))
        return self.out(torch.sigmoid(self.mix(torch.cat([torch.sigmoid(self.up(b)), a], dim=1)))).mean((-2, -1))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze, self.excite = nn.Conv2d(2, 6, 3), nn.Linear(6, 4), nn.Linear(4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return self.head((x * gate[:, :, None, None]).amax((2, 3)))


class Conv1dNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.Conv1d(6, 5, 3, stride=2)
        self.head = nn.Linear(15, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.elu(self.b(torch.sigmoid(self.bn(self.a(x))))).reshape(x.shape[0], -1))


class Conv3dNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Conv3d(4, 5, 3)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool3d(torch.sigmoid(self.bn(self.a(x))), (1, 2, 2))
        return self.head(torch.sigmoid(self.b(x)).flatten(2).mean(-1))


class InstanceNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.head = nn.Conv2d(2, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.norm(self.a(x))).amax((2, 3)))


class GroupNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.fc = nn.Conv2d(2, 6, 3), nn.GroupNorm(2, 6), nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.fc(torch.sigmoid(self.norm(self.a(x))).amax((2, 3)))))


class LayerNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.fc, self.head = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.fc(torch.sigmoid(self.norm(self.a(x))))))


class AdaptiveFlatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.pool = nn.Conv2d(2, 6, 3), nn.AdaptiveAvgPool2d((4, 4))
        self.fc, self.head = nn.Linear(96, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.fc(self.pool(torch.sigmoid(self.a(x))).flatten(1))))


class CalledTwice(nn.Module):
    """The second call reads what the first wrote: in and out are the same units."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.shared, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.shared(torch.sigmoid(self.shared(torch.sigmoid(self.embed(x)))))))


class CalledApart(nn.Module):
    """One layer on two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.shared, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 5), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = [
            torch.sigmoid(self.shared(torch.sigmoid(self.a(x)))),
            torch.sigmoid(self.shared(torch.sigmoid(self.b(x)))),
        ]
        return self.head(torch.cat(both, -1))


class UnusedLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[3](torch.sigmoid(self.layers[2](torch.sigmoid(self.layers[0](x)))))


class Halves(nn.Module):
    """Units of one layer of which some go one way and some another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.left, self.right = nn.Linear(6, 10), nn.Linear(4, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(self.a(x))
        return self.left(h[:, :4]) + self.right(h[:, 4:])


class Gated(nn.Module):
    """Half of a layer gates the other half: a unit owns a row of each."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.head = nn.Linear(6, 10), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.both(x).chunk(2, dim=-1)
        return self.head(value * torch.sigmoid(gate))


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(2, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.b(torch.sigmoid(F.pixel_shuffle(self.a(x), 2)))).mean((2, 3)))


class Functional(nn.Module):
    """Layers called as functions on parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 5)
        self.scale, self.shift, self.weight = (
            nn.Parameter(torch.ones(8)),
            nn.Parameter(torch.zeros(8)),
            nn.Parameter(torch.ones(3, 5)),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(self.a(x) * self.scale + self.shift)
        return F.linear(torch.sigmoid(self.b(h)), self.weight)
