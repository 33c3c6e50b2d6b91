"""A traced module that can be run in part: what depends on some weights, from the values that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

from torch import Tensor, fx, nn

from . import column_major
from .recurrent import straight, swallowed
from .reuse import in_place

SMALL = 4096  # bytes a sample: below, values of many samples stay in a core's cache
CHEAP = 2048  # bytes a sample that are copied to put batches together
ASKED = 1024  # sets of names whose section is remembered

Stage = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True, eq=False)
class Section:
    """The part of a graph that depends on some names, in four stages; every stage takes the graph's inputs first.

    The body runs on small batches, the head on the body's values of many of them put together. ``before`` gives what the
    changed part of the body reads, then what the head reads; ``body`` the changed values that the head reads.
    ``above``: what the changed part of the head reads, from the unchanged values that cross; ``head``: the outputs.
    """

    key: frozenset[int]  # positions of the first nodes that depend on the names
    nodes: frozenset[int]  # positions of all that do
    reads: frozenset[str]  # names that the other nodes read
    before: Stage | None
    reading: int  # of the values of ``before``, how many the body reads; the others cross
    body: Stage | None
    above: Stage | None
    head: Stage
    wanted: tuple[fx.Node, ...] = ()  # what ``before`` gives
    raised: tuple[fx.Node, ...] = ()  # what ``above`` gives


def fetch(roots: Iterable[Any], target: str) -> Any:
    """The object of a dotted name below the first of the roots that has it."""
    for root in roots:
        try:
            return attrgetter(target)(root)
        except AttributeError:
            continue
    raise AttributeError(target)


class Graph:
    """A traced graph over a module's own submodules and parameters, so that swapped weights and hooks are seen.

    names: {id of a parameter or buffer: its name}. reads: for each node, the names of those and of the modules that it runs.
    """

    def __init__(self, module: nn.Module, graph: fx.Graph, constants: nn.Module, names: Mapping[int, str]) -> None:
        self.module, self.graph, self.constants = module, graph, constants
        self._names = names
        self.inputs = [node for node in graph.nodes if node.op == "placeholder"]
        self.nodes = [node for node in graph.nodes if node.op != "placeholder"]
        self.place = {node: i for i, node in enumerate(self.nodes)}
        self.reads = [self._reads(node) for node in self.nodes]
        self.join = len(self.nodes) - 1  # nodes from here on are the head
        self.rewritten = False  # whether nodes stand for modules that are not called
        self.fused = False  # whether some do a product and what follows it
        self.joins = False  # whether values of several batches may be put together there
        self.free: frozenset[fx.Node] = frozenset(n for n in self.nodes if n.op == "get_attr")
        self.rows: frozenset[fx.Node] = frozenset()  # nodes whose value has one row a sample
        self._sections: dict[frozenset[int], Section] = {}
        self._known: dict[frozenset[str], Section] = {}  # by what was asked for
        self._fronts: dict[Any, tuple[Stage, Stage]] = {}

    def fetch(self, target: str) -> Any:
        """The object that a node's target names; constants of the trace lie on the traced copy."""
        return fetch((self.module, self.constants), target)

    def _reads(self, node: fx.Node) -> frozenset[str]:
        target = str(node.target)
        if node.op == "get_attr":
            return frozenset({self._names.get(id(self.fetch(target)), target)})
        if node.op != "call_module":
            return frozenset()
        module = self.fetch(target)
        own = {self._names.get(id(p), target) for p in (*module.parameters(), *module.buffers())}
        inner = {f"{target}.{name}" if name else target for name, _ in module.named_modules()}
        return frozenset(own | inner)

    @cached_property
    def known(self) -> frozenset[str]:
        """All names that some node reads."""
        return frozenset().union(*self.reads)

    def part(self, wanted: Sequence[fx.Node], given: Sequence[fx.Node], output: Any = None) -> Stage | None:
        """Compile the nodes that lead from ``given`` to ``wanted`` (or to a graph's ``output``); None for nothing."""
        if not wanted and output is None:
            return None
        needed, stack = set(), list(wanted)
        fx.node.map_arg(output, stack.append)
        asked = frozenset(stack)
        stop = {*given, *self.inputs}
        while stack:
            node = stack.pop()
            if node not in needed and node not in stop:
                needed.add(node)
                stack += node.all_input_nodes
        graph, there = fx.Graph(), {}
        for node in (*self.inputs, *given):
            if node not in there:
                there[node] = graph.placeholder(node.name)
        inside = swallowed(needed, asked)
        for node in self.nodes:
            if node in inside:
                continue
            if node in needed:
                made = in_place(node, needed, asked, self.fetch)
                if node.args and node.args[0] in inside:
                    made = straight, (*node.args[0].args, *node.args[1:])  # type: ignore[union-attr]
                if made is None:
                    there[node] = graph.node_copy(node, there.__getitem__)
                else:
                    there[node] = graph.call_function(made[0], fx.node.map_arg(made[1], there.__getitem__))
        graph.output(
            fx.node.map_arg(output, there.__getitem__) if output is not None else tuple(there[n] for n in wanted)
        )
        roots = {str(n.target): self.fetch(str(n.target)) for n in needed if n.op in ("call_module", "get_attr")}
        compiled = fx.GraphModule(roots, graph)
        return compiled.forward  # type: ignore[no-any-return]

    def dependents(self, names: Iterable[str]) -> frozenset[int]:
        """Positions of the nodes that read one of the names, and of all that depend on those; the output always."""
        wanted, found = frozenset(names), set()
        for i, node in enumerate(self.nodes):
            if self.reads[i] & wanted or any(self.place.get(a) in found for a in node.all_input_nodes):
                found.add(i)
        return frozenset({*found, len(self.nodes) - 1})

    def read_by(self, section: Section) -> frozenset[str]:
        """Parameters and buffers of the module that a section's nodes read."""
        at = {self.place[a] for i in section.nodes for a in self.nodes[i].all_input_nodes if a.op == "get_attr"}
        return frozenset().union(*(self.reads[i] for i in (*section.nodes, *at))) & frozenset(self._names.values())

    def section(self, names: Iterable[str]) -> Section:
        """What depends on the names; kept, since a drag asks for the same again and again."""
        asked = frozenset(names)
        found = self._known.get(asked)
        if found is None:
            dirty = self.dependents(asked)
            key = frozenset(i for i in dirty if not any(self.place.get(a) in dirty for a in self.nodes[i].all_input_nodes))
            found = self._sections[key] = self._sections.get(key) or self._build(key, dirty)
            if len(self._known) >= ASKED:
                self._known.clear()
            self._known[asked] = found
        return found

    def _build(self, key: frozenset[int], dirty: frozenset[int]) -> Section:
        nodes, last = self.nodes, self.nodes[-1]

        def used(by: Iterable[fx.Node], among: Callable[[fx.Node], bool]) -> list[fx.Node]:
            seen = dict.fromkeys(
                a for node in by for a in node.all_input_nodes if a in self.place and a not in self.free
            )
            return [a for a in seen if among(a)]

        def is_dirty(node: fx.Node) -> bool:
            return self.place[node] in dirty and node not in self.free

        def is_body(node: fx.Node) -> bool:
            return self.place[node] < self.join

        body = [n for n in nodes[: self.join] if is_dirty(n)]
        head = [n for n in nodes[self.join :] if is_dirty(n)]
        reading = used(body, lambda a: not is_dirty(a))  # clean values of the body that its dirty part reads
        above = used(head, lambda a: not is_dirty(a))  # clean values, wherever computed, that the dirty head reads
        clean_head = self._upstream([a for a in above if not is_body(a)])
        crossing = [a for a in above if is_body(a)]
        crossing += [a for a in used(clean_head, is_body) if a not in crossing]
        raised = used(head, lambda a: is_dirty(a) and is_body(a))
        clean = [n for n in nodes if self.place[n] not in dirty]
        needed = [n for n in clean if n.op != "get_attr" or any(self.place.get(user) not in dirty for user in n.users)]
        reads = frozenset().union(*(self.reads[self.place[n]] for n in needed))
        return Section(
            key,
            dirty,
            reads,
            before=self.part([*reading, *crossing], []),
            reading=len(reading),
            body=self.part(raised, reading),
            above=self.part(above, crossing),
            head=self.part([], [*above, *raised], last.args[0]),  # type: ignore[arg-type]
            wanted=(*reading, *crossing),
            raised=tuple(above),
        )

    def fronts(self, sections: Sequence[Section]) -> tuple[Stage, Stage]:
        """One pass that gives what ``before`` of each of the sections gives, and one for ``above``: tuples in their order.

        The second takes, after the graph's inputs, the first's values of every batch put together, those that cross.
        """
        key = tuple(tuple(sorted(section.key)) for section in sections)
        if key not in self._fronts:
            below = list(dict.fromkeys(node for section in sections for node in section.wanted))
            crossing = list(dict.fromkeys(node for section in sections for node in section.wanted[section.reading :]))
            above = list(dict.fromkeys(node for section in sections for node in section.raised))
            self._fronts[key] = (
                _split(self.part(below, []), below, [section.wanted for section in sections] + [tuple(crossing)]),
                _split(self.part(above, crossing), above, [section.raised for section in sections]),
            )
        return self._fronts[key]

    def _upstream(self, wanted: list[fx.Node]) -> list[fx.Node]:
        """Nodes of the head that lead to ``wanted``."""
        found: dict[fx.Node, None] = {}
        stack = list(wanted)
        while stack:
            node = stack.pop()
            if node in self.place and self.place[node] >= self.join and node not in found:
                found[node] = None
                stack += node.all_input_nodes
        return list(found)

    def choose_join(self, profiles: Sequence[Mapping[fx.Node, Any]], sizes: Sequence[int]) -> None:
        """Where batches can be put together: all that follows is small, and what crosses are tensors of one row a sample.

        profiles: {node: value} of runs on batches of the given ``sizes``.
        """

        def rows(node: fx.Node) -> bool:
            return all(
                isinstance(p[node], Tensor) and p[node].ndim and len(p[node]) == n
                for p, n in zip(profiles, sizes, strict=True)
            )

        def plain(node: fx.Node) -> bool:  # sizes of the inputs are asked anew in every stage
            if node.op == "get_attr":
                return True
            value = profiles[0][node]  # a recurrent layer's is a tuple, but no size
            return not (isinstance(value, Tensor) or _bytes(value)) and all(a in self.inputs or a in free for a in node.all_input_nodes)

        free: set[fx.Node] = set()
        for node in self.nodes[:-1]:
            if plain(node):
                free.add(node)
        self.free = frozenset(free)
        self.rows = frozenset(node for node in self.nodes[:-1] if rows(node))
        first = len(self.nodes) - 1
        while first and (self.nodes[first - 1] in free or _bytes(profiles[0].get(self.nodes[first - 1])) <= SMALL * sizes[0]):
            first -= 1  # weights that a node reads are no values of a batch, however large
        for place in range(first, len(self.nodes)):
            crossing = {
                a for n in self.nodes[place:] for a in n.all_input_nodes if a in self.place and self.place[a] < place
            }
            copied = sum(_bytes(profiles[0][a]) for a in crossing if a not in free)
            if copied <= CHEAP * sizes[0] and all(a in free or rows(a) for a in crossing):
                self.join, self.joins = place, True
                return


def _split(stage: Stage | None, nodes: Sequence[fx.Node], groups: Sequence[Sequence[fx.Node]]) -> Stage:
    """The values of ``nodes`` that a stage gives, as one tuple a group."""
    at = {node: i for i, node in enumerate(nodes)}

    def run(*given: Any) -> tuple[Any, ...]:
        values = stage(*given) if stage is not None else ()
        return tuple(tuple(values[at[node]] for node in group) for group in groups)

    return run


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, (tuple, list)) else 0


def put_together(parts: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Values of several batches as those of one: [(a, b), (a, b)] -> (a, b)."""
    if len(parts) == 1:
        return parts[0]
    return tuple(column_major.put_together(column) for column in zip(*parts, strict=True))
