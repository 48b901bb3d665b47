"""*Work*: how much is zapped, and what a call sits through, best and worst over all interleavings.

**zaps**, **frames**: how many zaps end in a whole run, and how many frames they cover, from the
first call to the last return. *Needed* is the least that any protocol can do: the union of all
requested ranges, zapped once, as if all calls came together.

**waiting**: the zaps that one call sits through, from its first step to its return: those that
the vCPU makes itself, and those of others that end while it *waits*: while it is blocked (for a
lock or a flag), or goes round in a loop out of which its own steps never lead (it polls). A vCPU
that could go on but is not scheduled is not waiting: that is the scheduler's doing, and would be
the same for every protocol.

Both are extreme paths through the graph of all states, found exactly: its strongly connected
components, condensed, are acyclic. If a cycle zaps, there is no worst case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mtrrzap.checker.explore import Progress
from mtrrzap.checker.ghost import NoGhost
from mtrrzap.checker.graph import Edge, Graph, build, components
from mtrrzap.checker.model import Model, State
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import Scenario
from mtrrzap.checker.stepper import Stepper
from mtrrzap.protocol import Range
from mtrrzap.protocol.meaning import is_zap

NAME = "work"


@dataclass(frozen=True)
class Extremes:
    """The best and the worst of something; ``worst`` is None if there is no bound."""

    best: int
    worst: int | None

    def __str__(self) -> str:
        if self.worst is None:
            return f"{self.best}.. without bound"
        return f"{self.best}" if self.best == self.worst else f"{self.best}..{self.worst}"


@dataclass(frozen=True)
class MeasuredWork:
    """What all interleavings of one scenario zap and wait."""

    zaps: Extremes
    frames: Extremes
    waiting: int | None
    """Zaps that one call sits through, at worst; None if there is no bound."""
    needed_zaps: int
    needed_frames: int
    states: int
    transitions: int
    cut: str | None = None


def measure(
    scenario: Scenario, *, limit: Limits | None = None, progress: Progress | None = None
) -> MeasuredWork:
    """Explore a scenario and measure it; a search that was cut measures nothing (see ``cut``)."""
    needed = _union([entry for each in scenario.requests for request in each for entry in request])
    union = sum(end - start for start, end in needed)
    model = Model(scenario, NoGhost())
    graph = build(Stepper(model), limit=limit, progress=progress)
    size = len(graph.states), graph.transitions
    nothing = Extremes(0, None)
    if graph.cut:
        return MeasuredWork(nothing, nothing, None, len(needed), union, *size, cut=graph.cut)
    condensed = _Condensed(model, graph)
    zaps = condensed.span(lambda _: 1)
    frames = condensed.span(lambda range_: range_[1] - range_[0])
    waiting: int | None = 0
    firsts = {scenario.requests[vcpu]: vcpu for vcpu in reversed(range(scenario.vcpus))}
    for vcpu in firsts.values() if scenario.symmetric else range(scenario.vcpus):
        watched = scenario.watching(vcpu)
        model = Model(watched, NoGhost())
        graph = build(Stepper(model), limit=limit, progress=progress)
        if graph.cut:
            return MeasuredWork(zaps, frames, None, len(needed), union, *size, cut=graph.cut)
        sits = _Condensed(model, graph).waiting(vcpu)
        waiting = None if sits is None or waiting is None else max(waiting, sits)
    return MeasuredWork(zaps, frames, waiting, len(needed), union, *size)


def _union(ranges: list[Range]) -> list[Range]:
    joined: list[Range] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = Range(joined[-1].start, max(joined[-1].end, end))
        else:
            joined.append(Range(start, end))
    return joined


class _Condensed:
    """A graph whose components are known, in the order from the end to the start."""

    def __init__(self, model: Model, graph: Graph) -> None:
        self._model = model
        self._graph = graph
        self._found = components(
            len(graph.states), lambda at: (edge.to for edge in graph.edges[at])
        )
        self._of = [0] * len(graph.states)
        for number, component in enumerate(self._found):
            for at in component:
                self._of[at] = number

    def _zap(self, state: State, edge: Edge) -> Range | None:
        """Return the range whose zap this edge ends, if it ends one."""
        operation = self._model.alternatives[state[edge.vcpu]][edge.choice].operation
        if not is_zap(operation, "zap_end"):
            return None
        return Range(*operation.args)

    def _cycles(self, at: int, edge: Edge) -> bool:
        return self._of[at] == self._of[edge.to]

    def span(self, weight: Callable[[Range], int]) -> Extremes:
        """Return the least and the greatest total weight of the zaps on a way to the end."""
        least: list[int | None] = [None] * len(self._found)
        most = [0] * len(self._found)
        bounded = True
        for number, component in enumerate(self._found):
            totals = []
            for at in component:
                for edge in self._graph.edges[at]:
                    zap = self._zap(self._graph.states[at], edge)
                    cost = weight(zap) if zap else 0
                    if self._cycles(at, edge):
                        bounded = bounded and cost == 0
                        continue
                    to = self._of[edge.to]
                    most[number] = max(most[number], most[to] + cost)
                    totals.append((least[to] or 0) + cost)
            least[number] = min(totals, default=0)
        first = self._of[0]
        return Extremes(least[first] or 0, most[first] if bounded else None)

    def waiting(self, vcpu: int) -> int | None:
        """Return the most zaps that one call of ``vcpu`` sits through."""
        worst = 0
        waits = self._waits(vcpu)
        most = [0] * len(self._found)
        for number in reversed(range(len(self._found))):
            for at in self._found[number]:
                for edge in self._graph.edges[at]:
                    cost = self._sits(at, edge, vcpu, waits=waits[at])
                    if self._cycles(at, edge):
                        if cost:
                            return None
                        continue
                    total = most[number] + cost
                    worst = max(worst, total)
                    if self._outside(edge.to, vcpu):
                        total = 0
                    to = self._of[edge.to]
                    most[to] = max(most[to], total)
        return worst

    def _waits(self, vcpu: int) -> list[bool]:
        """Say for each state whether ``vcpu`` is where it stays as long as it runs alone.

        Its own steps make a graph. There, a component without a way out is one state in which the
        vCPU is blocked, or a loop in which it polls.
        """
        edges = self._graph.edges

        def own(at: int) -> list[int]:
            return [edge.to for edge in edges[at] if edge.vcpu == vcpu]

        waits = [False] * len(edges)
        for component in components(len(edges), own):
            inside = set(component)
            if all(to in inside for at in component for to in own(at)):
                for at in component:
                    waits[at] = True
        return waits

    def _sits(self, at: int, edge: Edge, vcpu: int, *, waits: bool) -> int:
        if self._zap(self._graph.states[at], edge) is None:
            return 0
        own = edge.vcpu == vcpu
        return int(own or (waits and not self._outside(at, vcpu)))

    def _outside(self, at: int, vcpu: int) -> bool:
        local = self._graph.states[at][vcpu]
        return self._model.finished(local) or self._model.locals.items[local].calling
