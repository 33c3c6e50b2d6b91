"""Nets of the zoo whose residual additions make blocks removable, and some where they do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.structure.nets_transformer import Attention


class Bottleneck(nn.Module):
    """He et al. 2016: three convolutions beside a skip, which is a projection where the width changes; added in place."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if inputs != outputs or stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = torch.sigmoid(self.bn1(self.conv1(x)))
        out = torch.sigmoid(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3)
        self.stages = nn.Sequential(Bottleneck(6, 4, 8, 2), Bottleneck(8, 4, 8), Bottleneck(8, 5, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(F.relu(self.stem(x))).mean((2, 3)))


class PostNorm(nn.Module):
    """Vaswani et al. 2017: normalized after the addition, with a scale for each feature and dropout on the branch."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.embed, self.attn, self.norm1 = nn.Linear(4, width), Attention("chunk", width), nn.LayerNorm(width)
        self.fc1, self.fc2, self.norm2 = nn.Linear(width, 10), nn.Linear(10, width), nn.LayerNorm(width)
        self.scale, self.drop, self.head = nn.Parameter(torch.ones(width)), nn.Dropout(0.1), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = self.norm1(x + self.drop(self.attn(x)))
        x = self.norm2(x + self.scale * self.fc2(F.gelu(self.fc1(x))))
        return self.head(x.mean(1))


class Parallel(nn.Module):
    """Attention and feed-forward network beside each other (Wang, Komatsuzaki 2021, GPT-J): three terms of one sum."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.embed, self.norm, self.attn = nn.Linear(4, width), nn.LayerNorm(width), Attention("unbind", width)
        self.fc1, self.fc2, self.head = nn.Linear(width, 10), nn.Linear(10, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        h = self.norm(x)
        return self.head((x + self.attn(h) + self.fc2(F.gelu(self.fc1(h)))).mean(1))


class Inline(nn.Module):
    """Attention written out in the forward itself, which reshapes what the branch's first layer gives."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.num_heads = heads
        self.embed, self.norm, self.qkv = nn.Linear(4, width), nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out, self.head = nn.Linear(width, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1))
        return self.head(x.mean(1))


class Modules(nn.Module):
    """nn.TransformerEncoder and nn.TransformerDecoder."""

    def __init__(self, first: bool, decoder: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 12)
        if decoder:
            layer = nn.TransformerDecoderLayer(12, 2, 10, 0.0, batch_first=True, norm_first=first)
            self.decoder = nn.TransformerDecoder(layer, 2)
        else:
            made = nn.TransformerEncoderLayer(12, 2, 10, 0.0, batch_first=True, norm_first=first)
            self.encoder = nn.TransformerEncoder(made, 2, nn.LayerNorm(12), enable_nested_tensor=False)
        self.is_decoder, self.head = decoder, nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        h = self.decoder(h, h.flip(1)) if self.is_decoder else self.encoder(h)
        return self.head(h.mean(1))


class Seq2Seq(nn.Module):
    """nn.Transformer, which reads its input forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 12), nn.Linear(12, 3)
        self.both = nn.Transformer(12, 2, 1, 1, 10, 0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        return self.head(self.both(h, h.flip(1)).mean(1))


class ConvNeXt(nn.Module):
    """Liu et al. 2022: channels last within the branch, scaled for each channel; the sum is made in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth, self.norm = (
            nn.Conv2d(2, 6, 2, 2),
            nn.Conv2d(6, 6, 3, padding=1, groups=6),
            nn.LayerNorm(6),
        )
        self.fc1, self.fc2, self.scale = nn.Linear(6, 24), nn.Linear(24, 6), nn.Parameter(torch.ones(6))
        self.mix = nn.Sequential(
            nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8), nn.ReLU6(True), nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6)
        )
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.scale * self.fc2(F.gelu(self.fc1(self.norm(self.depth(x).permute(0, 2, 3, 1)))))
        x = x + h.permute(0, 3, 1, 2)
        out = self.mix(x)
        out += x
        return self.head(out.mean((2, 3)))


class ResidualLSTM(nn.Module):
    """Recurrent layers on top of each other, each added to what it reads (Kim et al. 2017, arXiv 1701.03360)."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, width), nn.Linear(width, 3)
        self.first, self.second = nn.LSTM(width, width, batch_first=True), nn.GRU(width, width, batch_first=True)
        self.third = nn.RNN(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.embed(x))
        out, (_, _) = self.first(x)
        x = x + out
        x = x + self.second(x)[0]
        return self.head((x + self.third(x)[0])[:, -1])


class Nested(nn.Module):
    """A residual within a residual."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.embed, self.a, self.b = nn.Linear(6, width), nn.Linear(width, width), nn.Linear(width, width)
        self.c, self.d, self.head = nn.Linear(width, 5), nn.Linear(5, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.embed(x))
        h = torch.sigmoid(self.a(x))
        h = h + self.d(torch.sigmoid(self.c(h)))
        return self.head(x + self.b(torch.sigmoid(h)))


class Refused(nn.Module):
    """Additions whose branch must stay: what it adds is not zero where its layers are ("gate"), a layer of it is used again
    ("shared", "tied"), its sum is read elsewhere ("read"), it is no residual at all ("two")."""

    def __init__(self, how: str, width: int = 6) -> None:
        super().__init__()
        self.how, self.embed, self.a, self.b = (
            how,
            nn.Linear(6, width),
            nn.Linear(width, width),
            nn.Linear(width, width),
        )
        self.head = nn.Linear(width, 3)
        if how == "tied":
            self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.embed(x))
        if self.how == "gate":
            return self.head(x + torch.sigmoid(self.b(x)))
        if self.how == "shared":
            return self.head(self.a(torch.tanh(x + self.a(x))))
        if self.how == "tied":
            return self.head(self.b(torch.tanh(x + self.a(x))))
        if self.how == "read":
            h = self.a(x)
            return self.head(torch.tanh(x + h) * h)
        return self.head(torch.tanh(self.a(x)) + torch.tanh(self.b(x)))
