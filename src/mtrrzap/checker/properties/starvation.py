"""*No starvation*: under weak fairness every call returns, even if other vCPUs ask for ever.

Weak fairness: a vCPU that could make a step all the time makes one at some time. A call that never
returns is a cycle of states in which the watched vCPU is inside its call and every vCPU either
makes a step or, somewhere on the cycle, cannot. It is looked for in each strongly connected
component of the graph without the watched vCPU's returns, and reported as a lasso: a stem, and a
loop that repeats for ever, of the fewest steps that both can have together. A state in which nobody
can make a step is one too, and the first that is reported: its loop is empty.

The kernel's spinlock queues its waiters, so here a lock is taken in two steps, joining the queue
and being served: an unfair lock would starve every protocol.
"""

from collections import deque
from collections.abc import Iterable
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from mtrrzap.checker.explore import Progress
from mtrrzap.checker.forever import ForeverStepper
from mtrrzap.checker.graph import Edge, Graph, build, components
from mtrrzap.checker.memory_model import LocalState
from mtrrzap.checker.model import Model
from mtrrzap.checker.result import Choice, Limits, Schedule

NAME = "starvation"


class Starved(NamedTuple):
    """What was found: who starves, how to get there, and what then repeats for ever.

    ``vcpu`` is None, and ``loop`` empty, if nobody can make a step any more.
    """

    vcpu: int | None
    stem: Schedule
    loop: Schedule

    @property
    def length(self) -> int:
        """How many steps both have."""
        return len(self.stem) + len(self.loop)


class StarvationResult(NamedTuple):
    """The verdict, the size of the graph, and why it is not whole, if it is not."""

    starved: Starved | None
    states: int
    transitions: int
    cut: str | None


def check(
    model: Model, *, limit: Limits | None = None, progress: Progress | None = None
) -> StarvationResult:
    """Look for a fair cycle; ``model`` must be one of a scenario that goes on for ever."""
    graph = build(ForeverStepper(model), limit=limit, progress=progress)
    if graph.cut:
        return StarvationResult(None, len(graph.states), graph.transitions, graph.cut)
    watched = {model.scenario.requests[vcpu]: vcpu for vcpu in reversed(range(model.vcpus))}
    starved = _dead_end(graph)
    if starved is None:
        every = sorted(watched.values()) if model.scenario.symmetric else range(model.vcpus)
        starved = shortest(model, graph, every)
    return StarvationResult(starved, len(graph.states), graph.transitions, None)


def shortest(model: Model, graph: Graph, watched: Iterable[int]) -> Starved | None:
    """Return the shortest lasso in which one of the ``watched`` vCPUs starves, if any does."""
    best: Starved | None = None
    for vcpu in watched:
        found = _Watch(model, graph, vcpu).search(None if best is None else best.length)
        best = found or best
    return best


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
        self._idles: dict[int, frozenset[int]] = {}

    def search(self, below: int | None = None) -> Starved | None:
        """Return a shortest lasso, of fewer steps than ``below``."""
        count = len(self._graph.states)
        found = components(count, lambda at: (edge.to for edge in self._edges(at)))
        best: Starved | None = None
        for start, inside in self._by_start(each for each in found if self._is_fair(each)):
            stem = self._graph.path(start)
            if below is not None and len(stem) + 1 >= below:
                break  # states are numbered by their distance
            loop = self._loop(start, inside, None if below is None else below - len(stem) - 1)
            if loop:
                best = Starved(self._vcpu, stem, loop)
                below = best.length
        return best

    @staticmethod
    def _by_start(fair: Iterable[list[int]]) -> list[tuple[int, set[int]]]:
        insides = [set(component) for component in fair]
        return sorted(((at, inside) for inside in insides for at in inside), key=itemgetter(0))

    def _edges(self, at: int) -> Iterable[Edge]:
        for edge in self._graph.edges[at]:
            after: LocalState = self._model.locals.items[self._graph.states[edge.to][self._vcpu]]
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

    def _loop(self, start: int, inside: set[int], most: int | None) -> Schedule:
        """Return a shortest fair loop from ``start``, of ``most`` steps, or nothing.

        A loop is looked for from its nearest state: none of a lower number is on it. One goes on
        from a state and the vCPUs that have neither moved nor been idle yet.
        """
        home = self._distances(start, inside, most)
        everybody = frozenset(range(self._model.vcpus))
        first = start, everybody - self._idle(start)
        came: dict[_Node, tuple[_Node, Edge]] = {}
        frontier, steps = [first], 0
        while frontier and (most is None or steps < most):
            steps += 1
            following = []
            for node in frontier:
                for edge in self._edges(node[0]):
                    if edge.to not in home or (most is not None and steps + home[edge.to] > most):
                        continue
                    after = edge.to, node[1] - {edge.vcpu} - self._idle(edge.to)
                    if after == (start, frozenset()):
                        return _trail(came, node, first, edge)
                    if after != first and after not in came:
                        came[after] = node, edge
                        following.append(after)
            frontier = following
        return ()

    def _distances(self, start: int, inside: set[int], most: int | None) -> dict[int, int]:
        """Return how far it is to ``start`` from where it is no farther than ``most``."""
        before = self._before
        found = {start: 0}
        queue = deque([start])
        while queue:
            at = queue.popleft()
            if found[at] == most:
                break
            for origin in before[at]:
                if origin >= start and origin in inside and origin not in found:
                    found[origin] = found[at] + 1
                    queue.append(origin)
        return found

    @cached_property
    def _before(self) -> list[list[int]]:
        before: list[list[int]] = [[] for _ in self._graph.states]
        for at in range(len(before)):
            for edge in self._edges(at):
                before[edge.to].append(at)
        return before

    def _idle(self, at: int) -> frozenset[int]:
        if at not in self._idles:
            moving = {edge.vcpu for edge in self._graph.edges[at]}
            self._idles[at] = frozenset(range(self._model.vcpus)) - moving
        return self._idles[at]


_Node = tuple[int, frozenset[int]]


def _trail(
    came: dict[_Node, tuple[_Node, Edge]], node: _Node, first: _Node, last: Edge
) -> Schedule:
    trail = [last]
    while node != first:
        node, edge = came[node]
        trail.append(edge)
    return tuple(Choice(edge.vcpu, edge.choice) for edge in reversed(trail))
