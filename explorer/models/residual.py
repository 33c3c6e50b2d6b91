"""Branches that a residual addition makes removable: what is added to a value computed before goes, the value stays.

In the traced graph: an addition one of whose terms is computed from another one of its terms (or beside a short
projection of the same value), by modules that nothing outside of the branch uses. Stochastic depth (Huang et al. 2016,
arXiv 1603.09382) leaves such branches out while training; here they are taken out for good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from heapq import heapify, heappop, heappush

from torch import fx, nn

from .layers import CONVOLUTIONS, NORMS

PROJECTIONS = (
    *CONVOLUTIONS,
    nn.Linear,
    *NORMS,
    nn.Identity,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._MaxPoolNd,
    nn.Flatten,
    nn.Dropout,
)
ADDITIONS = frozenset("add iadd add_ radd".split())


def branches(graph: fx.Graph, root: nn.Module) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """(modules, term) of the branches that additions of the graph have."""
    nodes = _used(graph)
    rank = {node: i for i, node in enumerate(nodes)}
    calls = Counter(name for node in nodes for name in stack(node))
    before: dict[fx.Node, int] = {}  # ancestors of a node, itself included, as bits
    for node in nodes:
        bits = 1 << rank[node]
        for source in node.all_input_nodes:
            bits |= before[source]
        before[node] = bits
    for node in nodes:
        if not _adds(node) or len(node.users) == 1 and _adds(next(iter(node.users))):
            continue  # of a sum of several terms, the last addition
        terms = _terms(node)
        for i, (term, addition) in enumerate(terms):
            branch = _alone(term, addition, rank)
            others = [other for j, (other, _) in enumerate(terms) if j != i and other is not term]
            passed = any(before[term] >> rank[other] & 1 for other in others)
            if branch and (
                passed or any(_projects(other, at, branch, rank, root) for other, at in terms if other is not term)
            ):
                modules = _modules(sorted(branch, key=rank.__getitem__), calls, root)
                if modules:
                    yield modules, term.name


def _used(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that the output depends on: sizes that were unpacked and never read are none of them."""
    used = {node for node in graph.nodes if node.op == "output"}
    for node in reversed(graph.nodes):
        if used.intersection(node.users):
            used.add(node)
    return [node for node in graph.nodes if node in used]


def _users(node: fx.Node, nodes: Collection[fx.Node]) -> list[fx.Node]:
    return [user for user in node.users if user in nodes]


def _adds(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    plain = len(node.args) == 2 and not node.kwargs and all(isinstance(a, fx.Node) for a in node.args)
    return node.op in ("call_function", "call_method") and name in ADDITIONS and plain


def _terms(node: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    """(term, the addition that it enters) of a sum, through additions that only it uses."""
    out = []
    for argument in node.args:
        assert isinstance(argument, fx.Node)
        out += _terms(argument) if _adds(argument) and len(argument.users) == 1 else [(argument, node)]
    return out


def _alone(term: fx.Node, addition: fx.Node, rank: Mapping[fx.Node, int]) -> set[fx.Node]:
    """The nodes of which nothing is used but for this term; none where the term is used elsewhere, too."""
    if _users(term, rank) != [addition] or term.op == "placeholder":
        return set()
    found = {term}
    seen = set(term.all_input_nodes)
    queue = [(-rank[node], node) for node in seen]  # the last first: all users of a node come before it
    heapify(queue)
    while queue:
        _, node = heappop(queue)
        if node.op != "placeholder" and all(user in found for user in _users(node, rank)):
            found.add(node)
            for source in node.all_input_nodes:
                if source not in seen:
                    seen.add(source)
                    heappush(queue, (-rank[source], source))
    return found


def _projects(
    other: fx.Node, addition: fx.Node, branch: set[fx.Node], rank: Mapping[fx.Node, int], root: nn.Module
) -> bool:
    """Whether another term is a short projection of what the branch reads: fewer layers, nothing nonlinear."""
    skip = _alone(other, addition, rank)
    if not skip or any(
        node.op != "call_module" or not isinstance(root.get_submodule(str(node.target)), PROJECTIONS) for node in skip
    ):
        return False
    sources = {one for node in skip for one in node.all_input_nodes} - skip
    read = {one for node in branch for one in node.all_input_nodes} - branch
    return len(sources) == 1 and sources <= read and _depth(skip, root) < _depth(branch, root)


def _depth(nodes: set[fx.Node], root: nn.Module) -> int:
    """How many calls of layers, other than norms, there are."""
    called = [root.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"]
    return sum(any(p.ndim > 1 for p in one.parameters()) and not isinstance(one, NORMS) for one in called)


def stack(node: fx.Node) -> list[str]:
    """FQNs of the modules within which a node was traced, the outermost first."""
    return [str(name).partition("@")[0] for name in node.meta.get("nn_module_stack", {})]


def _modules(branch: list[fx.Node], calls: Mapping[str, int], root: nn.Module) -> tuple[str, ...]:
    """The outermost modules of which every call lies in the branch; none where a layer of it is called elsewhere, too.

    calls: {module: how many nodes of the whole graph were traced within it}.
    """
    stacks = {node: stack(node) for node in branch}
    inside = Counter(name for names in stacks.values() for name in names)
    found: dict[str, None] = {}
    for node, names in stacks.items():
        own = next((name for name in names if name and inside[name] == calls[name]), None)
        if own is not None:
            found[own] = None
        elif (
            node.op == "call_module"
            and _depth({node}, root)
            or node.op == "get_attr"
            and _matrix(root, str(node.target))
        ):
            return ()
    return tuple(found)


def _matrix(root: nn.Module, name: str) -> bool:
    """Whether a parameter that a forward uses by itself is a layer."""
    owner, _, last = name.rpartition(".")
    found = getattr(root.get_submodule(owner), last, None)
    return isinstance(found, nn.Parameter) and found.ndim > 1
