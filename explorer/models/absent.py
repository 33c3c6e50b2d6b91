"""What stands where a module was taken out whole: it computes nothing and answers zeros that broadcast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

GONE = -2  # stands for a tensor's dim where the tensor, or the module of that name, goes whole
OTHER, NESTED = -1, -2  # within a form: no tensor; a tuple, of which the length and the items follow
SHAPED, STRIDED = -3, -4  # the sizes of what comes in, but for one: rank, dim, size; those of a convolution


def form_of(output: Any) -> tuple[int, ...] | None:
    """What a module answers: the rank of a tensor, or :data:`NESTED`, length and items of a tuple; None for anything else."""
    if isinstance(output, Tensor):
        return (output.ndim,)
    if type(output) is tuple:
        parts = [form_of(one) or (OTHER,) for one in output]
        return (NESTED, len(parts), *(number for part in parts for number in part))
    return None


def shaped(module: nn.Module, rank: int) -> tuple[int, ...] | None:
    """A form with the sizes that a module's output has, for code around it that reshapes it; None for other modules.

    A convolution's: :data:`STRIDED`, channels out, dims, and of each its kernel size, stride, padding and dilation.
    """
    if isinstance(module, nn.Linear):
        return (SHAPED, rank, rank - 1, module.out_features)
    if (
        isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        and not isinstance(module.padding, str)
        and rank == module.weight.ndim
    ):
        settings = zip(module.kernel_size, module.stride, module.padding, module.dilation, strict=True)
        return (STRIDED, module.out_channels, rank - 2, *(number for one in settings for number in one))
    if isinstance(
        module,
        (
            nn.modules.batchnorm._NormBase,
            nn.LayerNorm,
            nn.GroupNorm,
            nn.RMSNorm,
            nn.Dropout,
            nn.ReLU,
            nn.GELU,
            nn.Identity,
        ),
    ):
        return (SHAPED, rank, 0, 0)
    return None


def narrowed(form: tuple[int, ...], gone: int) -> tuple[int, ...]:
    """A form whose answer has ``gone`` channels less."""
    if form[0] == STRIDED:
        return (STRIDED, form[1] - gone, *form[2:])
    return (*form[:3], form[3] - gone) if form[0] == SHAPED and form[3] else form


def silence(output: Any) -> Any:
    """A module's answer with every tensor in it zero."""
    if isinstance(output, Tensor):
        return torch.zeros_like(output)
    return tuple(silence(one) for one in output) if type(output) is tuple else output


class Absent(nn.Module):
    """The place of a removed module. Called with anything, it answers zeros of its form, each dim of size 1.

    form: see :func:`form_of` and :func:`shaped`. Simple attributes of the module that was there are kept, since code around may read them
    (nn.TransformerDecoder asks its first layer's attention for ``batch_first``).
    """

    in_proj_bias = None  # nn.TransformerEncoderLayer reads this: without it, its fused kernel is not taken

    def __init__(self, form: Sequence[int]) -> None:
        super().__init__()
        self.form = tuple(form)

    @classmethod
    def like(cls, module: nn.Module, form: Sequence[int]) -> Absent:
        made = cls(form)
        kept = {k: v for k, v in vars(module).items() if type(v) in (bool, int, float, str) and not k.startswith("_")}
        vars(made).update(kept | {"training": module.training})
        return made

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else next(iter(kwargs.values()))
        return self._answer(given, iter(self.form))

    def _answer(self, given: Any, form: Iterator[int]) -> Any:
        number = next(form)
        if number == NESTED:
            return tuple([self._answer(given, form) for _ in range(next(form))])
        if number == SHAPED:
            rank, dim, size = next(form), next(form), next(form)
            return given.new_zeros([size if size and i == dim else given.shape[i] for i in range(rank)])
        if number == STRIDED:
            sizes = [given.shape[0], next(form)]
            for i in range(next(form)):
                kernel, stride, padding, dilation = (next(form) for _ in range(4))
                sizes.append((given.shape[2 + i] + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
            return given.new_zeros(sizes)
        return None if number == OTHER else given.new_zeros((1,) * number)

    def extra_repr(self) -> str:
        return f"form={self.form}"
