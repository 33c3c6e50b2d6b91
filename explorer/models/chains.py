"""Which layer's channels another layer reads through nothing but scale-free steps: where weights can be rescaled."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..core.errors import cause
from .calls import calls
from .layers import CONVOLUTIONS
from .task import copied, to_device
from .trace import trace
from .trial import EXACT, difference, too_large

if TYPE_CHECKING:
    from .subject import Subject

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# f(s x) = s f(x) for s > 0, channel by channel
_MODULES = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.MaxPool1d, nn.MaxPool2d,
    nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_FUNCTIONS = {
    F.relu, torch.relu, F.leaky_relu, F.dropout, F.dropout2d, F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d,
    F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.max_pool2d, torch.flatten,
}  # fmt: skip
_METHODS = {"relu", "relu_", "contiguous", "flatten", "mean"}


@dataclass(frozen=True)
class Chain:
    """producer: FQN of a weight whose output channels are followed. norm: FQN of the BatchNorm right behind it, or None.

    consumer: FQN of the one weight that reads the channels through scale-free steps, or None; ``dim`` is its input dim and
    ``width`` how many of its inputs one channel has become (flattened maps).
    """

    producer: str
    norm: str | None = None
    consumer: str | None = None
    dim: int = 1
    width: int = 1


def chains(subject: Subject) -> tuple[Chain, ...]:
    """The chains of a subject, in order; none where it cannot be traced or is too large to be tried. Each was tried with random
    factors. Kept."""
    return subject.memo.get(("chains", subject.version), lambda: _tried(subject, _find(subject)))


def _find(subject: Subject) -> list[Chain]:
    if subject.task.kind == "weights" or too_large(subject) is not None:
        return []
    module = subject.copy().cpu()
    try:
        double, graph = trace(
            module, calls(subject, module, (2,))[0], lambda m: type(m).__module__.startswith("torch.nn")
        )
    except Exception:  # any forward may come here: branches on data, lists of tensors
        return []
    uses: dict[str, int] = {}
    holders: dict[int, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            uses[node.target] = uses.get(node.target, 0) + 1
    for child in double.modules():
        for parameter in child._parameters.values():
            if parameter is not None:
                holders[id(parameter)] = holders.get(id(parameter), 0) + 1

    def own(node: fx.Node) -> Any:
        """The module of a node that is called once, with a weight of its own; else None."""
        called = str(node.target) if node.op == "call_module" else ""
        one: Any = double.get_submodule(called) if uses.get(called) == 1 else None
        weight = getattr(one, "weight", None)
        held = holders.get(id(weight), 0) if isinstance(weight, Tensor) else 1  # a parametrized one is computed: nobody holds it
        return one if held == 1 else None

    found = []
    for node in graph.nodes:
        one = own(node)
        if type(one) in (*CONVOLUTIONS, nn.Linear):
            chain = _follow(node, one, own)
            if chain.norm or chain.consumer:
                found.append(chain)
    return found


def _follow(node: fx.Node, producer: Any, own: Any) -> Chain:
    """Along the single users of a layer's output."""
    channels = producer.weight.shape[0]
    norm, flat, passed = None, False, False
    chain = Chain(f"{node.target}.weight")
    while len(node.users) == 1:
        node = next(iter(node.users))
        one = own(node)
        if type(one) in BATCH_NORMS and not passed and norm is None and one.running_var is not None:
            norm = str(node.target)
            chain = Chain(chain.producer, norm)
        elif type(one) in _MODULES and not (
            type(one) is nn.PReLU and isinstance(producer, nn.Linear) and one.num_parameters > 1
        ):
            passed = True
        elif type(one) is nn.Flatten and one.start_dim == 1 and one.end_dim == -1:
            flat = True
        elif (node.op == "call_function" and node.target in _FUNCTIONS) or (
            node.op == "call_method" and node.target in _METHODS
        ):
            name = node.target if isinstance(node.target, str) else node.target.__name__
            reduces = name in ("flatten", "mean")
            if reduces and not _whole_maps(name, node):
                break
            passed, flat = True, flat or reduces
        elif type(one) in CONVOLUTIONS and isinstance(producer, CONVOLUTIONS) and not flat:
            depthwise = one.groups == one.in_channels == one.out_channels == channels
            if depthwise or (one.groups == 1 and one.in_channels == channels):
                return Chain(chain.producer, norm, f"{node.target}.weight", 0 if depthwise else 1)
            break
        elif type(one) is nn.Linear and flat == isinstance(producer, CONVOLUTIONS) and one.in_features % channels == 0:
            return Chain(chain.producer, norm, f"{node.target}.weight", 1, one.in_features // channels)
        else:
            break
    return chain


def _whole_maps(name: str, node: fx.Node) -> bool:
    """Whether a flatten or mean leaves the channels in order, each with its whole map."""
    given = [*node.args[1:], *node.kwargs.values()]
    if name == "flatten":
        return given[:1] == [1] and given[1:] in ([], [-1])
    dims = given[0] if given and isinstance(given[0], (tuple, list)) else given
    return (
        all(isinstance(d, int) and d not in (0, 1) and d > -3 for d in dims)
        and 0 < len(dims)
        and not node.kwargs.get("keepdim")
    )


def folded(norm: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """(factor a [channels] of the rows in front, {tensor of the BatchNorm: its value afterwards}).

    y = gamma (x - mu) / sqrt(var + eps) + beta = a x + (beta - a mu) with a = gamma / sqrt(var + eps): the rows take a, and what
    is left of the norm adds a constant. Its shift stays in the norm, so that a layer without a bias needs none.
    Source: Jacob et al. 2018, arXiv 1712.05877, eq. 14; Krishnamoorthi 2018, arXiv 1806.08342, section 3.2.2.
    """
    root = (norm.running_var + norm.eps).sqrt()
    gamma = norm.weight.detach() if norm.weight is not None else torch.ones_like(root)
    a = gamma / root
    after = {"running_var": torch.full_like(root, 1 - norm.eps)}
    if norm.weight is None:
        return a, after | {"running_mean": norm.running_mean / root}
    shift = norm.bias.detach() - a * norm.running_mean
    return a, after | {"running_mean": torch.zeros_like(root), "weight": torch.ones_like(root), "bias": shift}


def along(factor: Tensor, ndim: int, dim: int) -> Tensor:
    """[n] as a factor along one dim of a tensor."""
    shape = [1] * ndim
    shape[dim] = -1
    return factor.view(shape)


@torch.no_grad()
def rescale(module: nn.Module, chain: Chain, s: Tensor) -> None:
    """Fold the norm of a chain into its producer and divide the channels by ``s`` [channels], in place; the consumer takes
    them times ``s``."""
    weight = module.get_parameter(chain.producer)
    one: Any = module.get_submodule(chain.producer.rpartition(".")[0])
    factor = 1 / s
    if chain.norm:
        norm = module.get_submodule(chain.norm)
        a, after = folded(norm)
        for name, value in after.items():
            scaled = value / s if name in ("bias", "running_mean") else value
            getattr(norm, name).data = scaled
        factor = a / s
    weight.data = weight.data * along(factor, weight.ndim, 0)
    if one.bias is not None:
        one.bias.data = one.bias.data * factor
    if chain.consumer:
        reader = module.get_parameter(chain.consumer)
        reader.data = reader.data * along(s.repeat_interleave(chain.width), reader.ndim, chain.dim)


@torch.no_grad()
def _tried(subject: Subject, found: list[Chain]) -> tuple[Chain, ...]:
    """The chains along which random factors change nothing, in float64, on real inputs."""
    if not found:
        return ()
    inputs = to_device(subject.example(2), "cpu", torch.float64)
    exact = copy.deepcopy(subject.copy()).cpu().double()
    generator = torch.Generator().manual_seed(0)

    def gap(some: list[Chain]) -> float:
        other = copy.deepcopy(exact)
        for chain in some:
            rows = len(other.get_parameter(chain.producer))
            s = torch.rand(rows, generator=generator, dtype=torch.float64) + 0.5
            rescale(other, chain, s if chain.consumer else torch.ones_like(s))
        try:
            return difference(*(subject.task.forward(one, copied(inputs)) for one in (exact, other)))  # inputs may be written to
        except Exception as error:  # a forward that reads a size, say: then nothing is known
            cause(error)
            return float("inf")

    if found and gap(found) > EXACT:
        found = [chain for chain in found if gap([chain]) <= EXACT]
    return tuple(found)
