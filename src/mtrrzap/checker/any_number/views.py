"""The closed set of views: for each control a graph, whose nodes are what another vCPU may be.

An edge says that two others may be in these two states at the same time; a loop, that two may be in
the same one. So a view is a control and an edge of its graph. The node's neighbours are the bits of
one integer, and a move takes whole rows of them at once:

    A vCPU in state m moves to n, and the control c becomes d. Whoever else is there has been a
    neighbour of m in c. So in d, n is a neighbour of all of them, and each two of them are
    neighbours that were neighbours in c.

A control waits in a queue while rows have grown since it was last looked at. Only moves that these
rows have a part in are made again.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from mtrrzap.checker.explore import Progress
from mtrrzap.checker.result import Limits

C = TypeVar("C")
"""A control."""

Graph = dict[int, int]
"""For each node its neighbours, as bits."""

ROW = 150
"""Bytes that a row takes roughly, beside its bits."""

KEPT = 200_000
"""Shifted rows that are kept, at most."""

_CLOCK = 64
"""Expansions between two looks at the limits."""


class CutError(Exception):
    """A limit is reached before the set is closed; the text says which."""


class Views(Generic[C]):
    """A set of views that grows until it is closed."""

    def __init__(
        self,
        moves: Callable[[C, int], list[tuple[C, int, int]]],
        own: Callable[[C], list[tuple[C, int]]],
        shifted: Callable[[int, int], int],
        limits: Limits | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Take the system in three functions.

        ``moves(control, node)`` lists the steps of another vCPU: control and node after it, and the
        shift. ``own(control)`` lists those of the control itself. ``shifted(node, by)`` is a node
        with its numbers counted from ``by`` further on.
        """
        self.graphs: dict[C, Graph] = {}
        self._moves, self._own, self._shifted = moves, own, shifted
        self._known: dict[tuple[C, int], list[tuple[C, int, int]]] = {}
        self._grown: dict[C, Graph] = {}
        self._queue: deque[C] = deque()
        self._limits, self._progress = limits or Limits(), progress
        self._rows = 0
        self._rows_shifted: dict[tuple[int, int], int] = {}
        self.steps = 0
        self.expanded = 0

    def add(self, control: C, node: int, neighbours: int) -> None:
        """Add edges between a node and others; the caller adds those back from the others too."""
        graph = self.graphs.get(control)
        if graph is None:
            graph = self.graphs[control] = {}
            self._grown[control] = {}
        before = graph.get(node, 0)
        new = neighbours & ~before
        if new:
            graph[node] = before | new
            self._rows += not before
            grown = self._grown[control]
            if not grown:
                self._queue.append(control)
            grown[node] = grown.get(node, 0) | new

    def close(self, until: Callable[[], bool] = lambda: False) -> None:
        """Add what the steps demand, until nothing is missing, or ``until`` says that it is enough.

        Raises:
            CutError: if a limit is reached first.
        """
        started = time.perf_counter()
        while self._queue:
            control = self._queue.popleft()
            grown, self._grown[control] = self._grown[control], {}
            if grown:
                self._expand(control, dict(self.graphs[control]), grown)
                self.expanded += 1
                if until():
                    return
                if self.expanded % _CLOCK == 0:
                    self._check_limits(started)

    def _check_limits(self, started: float) -> None:
        if self._progress:
            self._progress(self._rows, time.perf_counter() - started, len(self._queue))
        views = self.count() if self._limits.states else 0
        why = self._limits.over(views, started, self._rows * ROW)
        if why:
            raise CutError(why.replace("states", "views"))

    def count(self) -> int:
        """Return how many views there are: a loop counts once, any other edge once."""
        ends = loops = 0
        for graph in self.graphs.values():
            for node, row in graph.items():
                ends += row.bit_count()
                loops += row >> node & 1
        return (ends + loops) // 2

    def _expand(self, control: C, graph: Graph, grown: Graph) -> None:
        """Make every move that the edges in ``grown`` are new to."""
        for after, by in self._own(control):
            self.steps += 1
            for node, new in grown.items():
                self.add(after, self._shifted(node, by), self.shifted_row(new, by))
        touched = 0
        for node in grown:
            touched |= 1 << node
        for node, row in graph.items():
            if row & touched:
                self._move(control, node, graph, grown)

    def _move(self, control: C, node: int, graph: Graph, grown: Graph) -> None:
        key = (control, node)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._moves(control, node)
        if not known:
            return
        self.steps += len(known)
        mine = grown.get(node, 0)
        rows = _new_rows(node, graph, grown)
        for after, moved, by in known:
            bit = 1 << moved
            for other, common in rows:
                if by:
                    row = self.shifted_row(common, by)
                    other = self._shifted(other, by)
                else:
                    row = common
                self.add(after, other, row | bit)
            if mine:
                self.add(after, moved, self.shifted_row(mine, by))

    def shifted_row(self, row: int, by: int) -> int:
        """Return the nodes of a row, each with its numbers shifted."""
        if not by:
            return row
        known = self._rows_shifted.get((row, by))
        if known is None:
            known = 0
            for node in bits(row):
                known |= 1 << self._shifted(node, by)
            if len(self._rows_shifted) < KEPT:
                self._rows_shifted[row, by] = known
        return known


def _new_rows(node: int, graph: Graph, grown: Graph) -> list[tuple[int, int]]:
    """Return for each neighbour of ``node`` the common neighbours that are new in this triangle.

    A triangle is new if one of its three edges is. A neighbour is left out if it has none.
    """
    row, mine = graph[node], grown.get(node, 0)
    rows = []
    for other in bits(row):
        theirs = graph[other]
        if mine >> other & 1:
            rows.append((other, theirs & row))
        else:
            new = theirs & mine | grown.get(other, 0) & row
            if new:
                rows.append((other, new))
    return rows


def bits(row: int) -> Iterator[int]:
    """Yield the positions of the bits of a row, lowest first."""
    while row:
        low = row & -row
        yield low.bit_length() - 1
        row ^= low
