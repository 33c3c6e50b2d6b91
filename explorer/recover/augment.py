"""Changes of a batch that leave its labels right: the same pictures are never seen twice, so less is learned by heart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.checks import shown, whole
from ..core.errors import SettingsError
from ..core.message import say

Augment = Callable[[Any], Any]  # collated inputs, on the device -> inputs of the same kind; random through torch alone


@dataclass(frozen=True)
class ShiftFlip:
    """Images (B, C, H, W), each shifted by up to ``pixels`` in both directions, zeros coming in, and mirrored left to right
    with probability 1/2 where ``flip`` says so.

    It draws from torch's generator on the CPU, so a seed means the same on every device. Raises :class:`SettingsError`, and
    on other shapes ``ValueError``. Source: He et al. 2016, Deep Residual Learning, arXiv 1512.03385, section 4.2.
    """

    pixels: int = 2
    flip: bool = True

    def __post_init__(self) -> None:
        if not whole(self.pixels) or not 0 <= self.pixels <= 1000:
            raise SettingsError(
                say("pixels={value}; accepted: a whole number from 0 to 1000", value=shown(self.pixels))
            )
        if type(self.flip) is not bool:
            raise SettingsError(say("flip={value}; accepted: True or False", value=shown(self.flip)))

    def __call__(self, images: Tensor) -> Tensor:
        if not isinstance(images, Tensor) or images.ndim != 4:
            shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(say("ShiftFlip takes images (B, C, H, W), not {shape}", shape=shape))
        count, _, height, width = images.shape
        p, device = self.pixels, images.device
        if self.flip:
            turned = torch.rand(count) < 0.5
            images = torch.where(turned.to(device)[:, None, None, None], images.flip(-1), images)
        if not p:
            return images
        at = torch.randint(0, 2 * p + 1, (2, count)).to(device)
        rows, columns = (
            at[i][:, None] + torch.arange(size, device=device) for i, size in enumerate((height, width))
        )  # [B, H], [B, W]
        padded = torch.nn.functional.pad(images, (p, p, p, p)).movedim(1, -1)
        batch = torch.arange(count, device=device)[:, None, None]
        return padded[batch, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": "shift-flip"} | asdict(self)


def described(augment: Augment | None) -> Any:
    """Plain values for the history and to tell checkpoints apart: what it says of itself, or where it was written."""
    if augment is None:
        return None
    if hasattr(augment, "to_dict"):
        return augment.to_dict()
    kind = type(augment)
    return {"name": getattr(augment, "__qualname__", f"{kind.__module__}.{kind.__qualname__}")}
