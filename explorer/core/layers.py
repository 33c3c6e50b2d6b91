"""What a subject consists of, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """One prunable, quantizable weight tensor.

    name: parameter FQN (``conv1.weight``, ``rnn.weight_hh_l0``). kind: conv, conv_transpose, linear, rnn, lstm, gru,
    attention, embedding or other. group: name of the group of units that this layer produces, or None. dtype, bits: the
    type that the original's weight is stored in (fp32, bf16, fp16, fp64, fp8 e4m3 ...), and its bits an entry.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    numel: int
    group: str | None = None
    dtype: str = "fp32"
    bits: int = 32

    @property
    def module(self) -> str:
        """FQN of the module that owns the parameter."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Group:
    """Units that exist in several layers and must be removed together.

    kind: channel, neuron, hidden, head or width. units: how many. producers: layers whose rows are the units.
    members: every tensor that loses entries with a unit (producers first, then what follows, then consumers).
    about: what a unit is, where that is not plain.
    """

    name: str
    kind: str
    units: int
    producers: tuple[str, ...]
    members: tuple[str, ...]
    about: tuple[str, ...] = ()
