"""*No deadlock* for every number of vCPUs: whenever one vCPU waits, somebody else can move.

Views cannot show that. They say who may be there together, never that somebody must be there: two
vCPUs that both wait are a view although a third is zapping meanwhile. So this proves *clauses*:

    while the objects have the values s, at least one vCPU is in a state of R.

What is wanted first: for all values under which some state waits, R is the states inside a call
that can move. Then the search goes backwards. Take a step of some vCPU from m to n, before which
the values were s. If n is in R, the clause holds after the step. If not, somebody beside the one
who moves must be in R. So before the step one must be in a state that is not m, and that leads into
R, or that no view has together with m: for if such a vCPU is there, this step cannot be made. That
is a clause about s. In this way *the flag is set* comes to mean *somebody is zapping*. All clauses
are proved when nothing new is demanded and none is demanded of the start, where all are idle.

An idle vCPU counts as one that waits where the first step of a call is blocked, and never as one
that can move. One more idle vCPU changes nothing, so a clause whose R has ``IDLE`` in it is true.
"""

import time
from collections import deque
from typing import NamedTuple

from mtrrzap.checker.any_number.alike import Alike
from mtrrzap.checker.any_number.steps import IDLE, Steps
from mtrrzap.checker.any_number.views import CutError, Graph, bits
from mtrrzap.checker.result import Limits

MOST = 200_000
"""Demands after which the search gives up."""


class NotProvedError(Exception):
    """The clauses cannot be proved; the text says why."""


class _Before(NamedTuple):
    """A step that leads to some values: the values before it, who moved, to where, the shift."""

    values: int
    mover: int
    moved: int
    shift: int


class Somebody:
    """The search for clauses that imply each other along every step."""

    def __init__(
        self, steps: Steps, alike: Alike, anonymous: dict[int, Graph], limits: Limits | None = None
    ) -> None:
        """``anonymous`` are the closed views of vCPUs of which none is watched."""
        self._limits = limits or Limits()
        self._steps, self._alike, self._graphs = steps, alike, anonymous
        self.clauses: dict[int, list[int]] = {}
        """For the objects' values: each R, as bits."""
        self._demands = 0
        self._queue: deque[tuple[int, int]] = deque()
        self._before: dict[int, list[_Before]] = {}
        self._nodes = {
            values: sum(1 << node for node in graph) for values, graph in anonymous.items()
        }
        for values, graph in anonymous.items():
            for node in graph:
                for step in alike.steps(values, node):
                    before = _Before(values, node, step.local, step.shift)
                    self._before.setdefault(step.values, []).append(before)

    def prove(self) -> None:
        """Find the clauses.

        Raises:
            NotProvedError: if one that is needed cannot be proved.
            CutError: if a limit is reached first.
        """
        started = time.perf_counter()
        for values in self._graphs:
            moving = self.moving(values)
            if moving is not None:
                self._demand(values, moving)
        while self._queue:
            values, wanted = self._queue.popleft()
            late = self._limits.late(started)
            if late:
                raise CutError(late)
            if wanted in self.clauses[values]:  # else a stronger one was found meanwhile
                for before in self._before.get(values, ()):
                    self._step_back(before, wanted)

    def moving(self, values: int) -> int | None:
        """Return which states inside a call can move, as bits; None if no state waits."""
        moving = 0
        waits = not all(self._steps.steps(values, start) for start in self._steps.starts)
        for node in self._graphs[values]:
            if node != IDLE and self._alike.can_move(values, node):
                moving |= 1 << node
            elif node != IDLE:
                waits = True
        return moving if waits else None

    def _step_back(self, before: _Before, wanted: int) -> None:
        if wanted >> before.moved & 1:
            return
        beside = self._graphs[before.values][before.mover]
        leads = wanted
        if before.shift:
            leads = 0
            for node in bits(beside):
                leads |= (wanted >> self._alike.shifted(node, before.shift) & 1) << node
        there = self._nodes[before.values] & ~(1 << before.mover)
        self._demand(before.values, there & (leads | ~beside))

    def _demand(self, values: int, wanted: int) -> None:
        if wanted >> IDLE & 1:
            return
        self._demands += 1
        if not wanted or values == self._steps.first or self._demands > MOST:
            raise NotProvedError("nothing shows that somebody can move while a vCPU waits")
        known = self.clauses.setdefault(values, [])
        if any(each & ~wanted == 0 for each in known):
            return
        self.clauses[values] = [each for each in known if wanted & ~each] + [wanted]
        self._queue.append((values, wanted))
