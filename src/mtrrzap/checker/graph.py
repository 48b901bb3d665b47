"""All states and steps as a graph, for what a search cannot answer: cycles, longest paths."""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mtrrzap.checker.explore import Progress
from mtrrzap.checker.model import State
from mtrrzap.checker.result import INTERRUPTED, Choice, Limits
from mtrrzap.checker.stepper import Stepper

_EVERY = 4096

_STATE, _EDGE = 350, 72
"""Roughly the bytes of a state beside its tuple (dict entry, parent, list), and of an edge."""


class Edge(NamedTuple):
    """One transition: by whom, by which alternative, to which state (its number)."""

    vcpu: int
    choice: int
    to: int


@dataclass
class Graph:
    """Every state and transition, numbered in breadth-first order. ``cut`` if there was no room."""

    states: list[State] = field(default_factory=list)
    edges: list[list[Edge]] = field(default_factory=list)
    parents: list[tuple[int, Choice]] = field(default_factory=list)
    cut: str | None = None

    def path(self, to: int) -> tuple[Choice, ...]:
        """Return a shortest schedule from the start to a state."""
        steps = []
        while to:
            to, step = self.parents[to]
            steps.append(step)
        return tuple(reversed(steps))

    @property
    def transitions(self) -> int:
        """How many transitions there are."""
        return sum(len(edges) for edges in self.edges)


def build(
    stepper: Stepper, *, limit: Limits | None = None, progress: Progress | None = None
) -> Graph:
    """Explore everything, and keep every edge, unless a limit is reached (see ``Graph.cut``).

    With symmetry an edge leads to the canonical form of where it goes.
    """
    first = stepper.canonical(stepper.model.initial)
    graph = Graph(states=[first], parents=[(0, Choice(-1, -1))])
    seen = {first: 0}
    started, edges = time.perf_counter(), 0
    size = sys.getsizeof(first) + _STATE
    try:
        for at in range(1 << 62):
            if at == len(graph.states):
                break
            if progress and at % _EVERY == 0:
                progress(len(graph.states), 0.0, len(graph.states) - at)
            if limit is not None:
                taken = size * len(graph.states) + _EDGE * edges
                graph.cut = limit.over(len(graph.states), started, taken)
                if graph.cut:
                    break
            graph.edges.append(_edges(stepper, graph, seen, at))
            edges += len(graph.edges[-1])
    except KeyboardInterrupt:
        graph.cut = INTERRUPTED
    return graph


def _edges(stepper: Stepper, graph: Graph, seen: dict[State, int], at: int) -> list[Edge]:
    edges = []
    for move in stepper.moves(graph.states[at]):
        after = stepper.canonical(move.after)
        to = seen.get(after)
        if to is None:
            to = seen[after] = len(graph.states)
            graph.states.append(after)
            graph.parents.append((at, Choice(move.vcpu, move.choice)))
        edges.append(Edge(move.vcpu, move.choice, to))
    return edges


def components(count: int, successors: Callable[[int], Iterable[int]]) -> list[list[int]]:
    """Return the strongly connected components, each after all it leads to (Tarjan, 1972)."""
    index = [-1] * count
    low = [0] * count
    on_stack = [False] * count
    stack: list[int] = []
    found: list[list[int]] = []
    counter = 0
    for root in range(count):
        if index[root] >= 0:
            continue
        work = [(root, iter(successors(root)))]
        index[root] = low[root] = counter
        counter += 1
        stack.append(root)
        on_stack[root] = True
        while work:
            node, following = work[-1]
            for to in following:
                if index[to] < 0:
                    index[to] = low[to] = counter
                    counter += 1
                    stack.append(to)
                    on_stack[to] = True
                    work.append((to, iter(successors(to))))
                    break
                if on_stack[to]:
                    low[node] = min(low[node], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    found.append(_popped(stack, on_stack, node))
    return found


def _popped(stack: list[int], on_stack: list[bool], until: int) -> list[int]:
    component = []
    while True:
        node = stack.pop()
        on_stack[node] = False
        component.append(node)
        if node == until:
            return component
