"""*No starvation*: under weak fairness every call returns, even if other vCPUs ask for ever.

Weak fairness: a vCPU that could make a step all the time makes one at some time. A call that never
returns is a cycle of states in which the watched vCPU is inside its call and every vCPU either
makes a step or, somewhere on the cycle, cannot. It is looked for in each strongly connected
component of the graph without the watched vCPU's returns, and reported as a lasso: a stem, and a
loop that repeats for ever. A state in which nobody can make a step is one too: its loop is empty.

The kernel's spinlock queues its waiters, so here a lock is taken in two steps, joining the queue
and being served: an unfair lock would starve every protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from mtrrzap.engine.check.explore import Progress
from mtrrzap.engine.check.forever import ForeverStepper
from mtrrzap.engine.check.graph import Edge, Graph, build, components
from mtrrzap.engine.check.local import Local
from mtrrzap.engine.check.model import Model
from mtrrzap.engine.check.result import Choice, Limits, Schedule

NAME = "starvation"


class Starved(NamedTuple):
    """What was found: who starves, how to get there, and what then repeats for ever.

    ``vcpu`` is None, and ``loop`` empty, if nobody can make a step any more.
    """

    vcpu: int | None
    stem: Schedule
    loop: Schedule


class Answer(NamedTuple):
    """The verdict, the size of the graph, and why it is not whole, if it is not."""

    starved: Starved | None
    states: int
    transitions: int
    cut: str | None


def check(model: Model, *, limit: Limits | None = None, progress: Progress | None = None) -> Answer:
    """Look for a fair cycle; ``model`` must be one of a scenario that goes on for ever."""
    graph = build(ForeverStepper(model), limit=limit, progress=progress)
    if graph.cut:
        return Answer(None, len(graph.states), graph.transitions, graph.cut)
    watched = {model.scenario.requests[vcpu]: vcpu for vcpu in reversed(range(model.vcpus))}
    starved = _dead_end(graph)
    every = range(model.vcpus)
    for vcpu in sorted(watched.values()) if model.scenario.symmetric else every:
        if starved:
            break
        starved = _Watch(model, graph, vcpu).search()
    return Answer(starved, len(graph.states), graph.transitions, None)


def _dead_end(graph: Graph) -> Starved | None:
    """Return the nearest state in which nobody can make a step: here no request is the last."""
    for at, edges in enumerate(graph.edges):
        if not edges:
            return Starved(None, graph.path(at), ())
    return None


class _Watch:
    """The search for a cycle in which one vCPU never returns."""

    def __init__(self, model: Model, graph: Graph, vcpu: int) -> None:
        self._model = model
        self._graph = graph
        self._vcpu = vcpu

    def search(self) -> Starved | None:
        count = len(self._graph.states)
        found = components(count, lambda at: (edge.to for edge in self._edges(at)))
        fair = [each for each in found if self._is_fair(each)]
        if not fair:
            return None
        return min(
            (self._lasso(each) for each in fair),
            key=lambda lasso: len(lasso.stem) + len(lasso.loop),
        )

    def _edges(self, at: int) -> Iterable[Edge]:
        for edge in self._graph.edges[at]:
            after: Local = self._model.locals.items[self._graph.states[edge.to][self._vcpu]]
            if edge.vcpu != self._vcpu or not after.calling:
                yield edge

    def _is_fair(self, component: list[int]) -> bool:
        inside = set(component)
        waiting = set(range(self._model.vcpus))
        edges = 0
        for at in component:
            waiting &= {edge.vcpu for edge in self._graph.edges[at]}
            for edge in self._edges(at):
                if edge.to in inside:
                    edges += 1
        if edges == 0:
            return False
        moved = {edge.vcpu for at in component for edge in self._edges(at) if edge.to in inside}
        return waiting <= moved

    def _lasso(self, component: list[int]) -> Starved:
        inside = set(component)
        start = min(component)
        loop: list[Edge] = []
        at = start
        unmet = set(range(self._model.vcpus)) - self._idle(at)
        while unmet:
            path = self._nearest(at, inside, unmet)
            for edge in path:
                at = edge.to
                unmet -= {edge.vcpu} | self._idle(at)
            loop += path
        loop += self._back(at, start, inside, must_move=not loop)
        steps = tuple(Choice(edge.vcpu, edge.choice) for edge in loop)
        return Starved(self._vcpu, self._graph.path(start), steps)

    def _idle(self, at: int) -> set[int]:
        return set(range(self._model.vcpus)) - {edge.vcpu for edge in self._graph.edges[at]}

    def _nearest(self, start: int, inside: set[int], unmet: set[int]) -> list[Edge]:
        def meets(edge: Edge) -> bool:
            return edge.vcpu in unmet or bool(self._idle(edge.to) & unmet)

        return self._shortest(start, inside, meets)

    def _back(self, at: int, start: int, inside: set[int], *, must_move: bool) -> list[Edge]:
        if at == start and not must_move:
            return []
        return self._shortest(at, inside, lambda edge: edge.to == start)

    def _shortest(self, start: int, inside: set[int], good: object) -> list[Edge]:
        came: dict[int, tuple[int, Edge]] = {}
        queue = deque([start])
        seen = {start}
        while queue:
            at = queue.popleft()
            for edge in self._edges(at):
                if edge.to not in inside:
                    continue
                if good(edge):  # type: ignore[operator]
                    return [*_trail(came, at, start), edge]
                if edge.to not in seen:
                    seen.add(edge.to)
                    came[edge.to] = (at, edge)
                    queue.append(edge.to)
        raise AssertionError("a component that is not strongly connected")


def _trail(came: dict[int, tuple[int, Edge]], at: int, start: int) -> list[Edge]:
    trail = []
    while at != start:
        at, edge = came[at]
        trail.append(edge)
    return trail[::-1]
