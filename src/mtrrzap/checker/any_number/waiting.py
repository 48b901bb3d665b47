"""*No starvation* for every number of vCPUs: a bound on the zaps that one call sits through.

For a watched vCPU, count the zaps that end while it waits, and those that it makes itself, from its
call on. If no view has more than some number B of them, and all of the following is true as well,
no call starves, whoever else asks and how often:

1. no zap is lost, and there is no deadlock;
2. a wait that can end stays so: no step of another vCPU blocks it again (a lock is apart: vCPUs
   queue for it);
3. nothing blocks a vCPU that holds a lock;
4. from no state inside a call can a vCPU come back to it without a zap in between, and under a
   lock not at all.

Suppose that a call never returns. By 4 and B its vCPU makes finitely many steps, so it stays in one
state. If that takes a lock, those before it in the queue hold it one after the other, each for
finitely many steps by 3 and 4, and then it is its turn. If not, it must be blocked for ever: by 2,
if the wait could end once, it still can, and under weak fairness the vCPU goes on. From some time
on no zap ends any more, because at most B end while it waits. Every call that returns has seen one
zap end, by 1, so every other vCPU returns at most once more, and by 4 it makes finitely many steps.
So at last nobody inside a call moves. But somebody inside a call can, by 1: a contradiction.

Time in a lock's queue is not counted, as the queue is not modelled here.
"""

from __future__ import annotations

from typing import NamedTuple

from mtrrzap.checker.any_number.alike import Alike
from mtrrzap.checker.any_number.somebody import NotProvedError
from mtrrzap.checker.any_number.steps import IDLE, Effect, Step, Steps
from mtrrzap.checker.any_number.views import Graph, Views, bits
from mtrrzap.checker.explore import Progress
from mtrrzap.checker.graph import components
from mtrrzap.checker.result import Limits


class Control(NamedTuple):
    """The objects' values, the watched vCPU's local state, and the zaps it has sat through."""

    values: int
    watched: int
    zaps: int


class Waiting:
    """The views of a watched vCPU with its count of zaps."""

    def __init__(
        self,
        steps: Steps,
        alike: Alike,
        anonymous: dict[int, Graph],
        limits: Limits | None = None,
        progress: Progress | None = None,
    ) -> None:
        """``anonymous`` are the closed views of vCPUs of which none is watched."""
        self._steps, self._alike, self._anonymous = steps, alike, anonymous
        self._effects: list[Effect] = steps.effects.items
        ranges = {effect.ended for effect in self._effects if effect.ended >= 0}
        self._most = 4 * (1 + len(ranges))
        self.bound = 0
        """The zaps that a call sits through at most."""
        self.ranks: list[int] = []
        """For each set of local states: inside a call a step leads to a lower one, until a zap."""
        self.views: Views[Control] = Views(self._moves, self._own, alike.shifted, limits, progress)

    def prove(self) -> None:
        """Find the bound, and see that 2, 3 and 4 are true.

        Raises:
            NotProvedError: if one of them is not, or there is no bound.
            CutError: if a limit is reached first.
        """
        self._check_waits()
        self._check_loops()
        for values, graph in self._anonymous.items():
            for kind in range(len(self._steps.starts)):
                self._call(values, graph, kind)
        self.views.close(lambda: self.bound > self._most)
        if self.bound > self._most:
            raise NotProvedError(f"a call may sit through more than {self._most} zaps")

    def _call(self, values: int, graph: Graph, kind: int) -> None:
        present = graph.get(IDLE, 0)
        start = Control(values, IDLE, 0)
        for step in self._alike.calls(values, kind):
            for control, by in self._watched(start, step):
                for node in bits(present):
                    row = self.views.shifted_row(graph[node] & present, by)
                    self.views.add(control, self._alike.shifted(node, by), row)

    def _own(self, control: Control) -> list[tuple[Control, int]]:
        found = []
        for step in self._alike.steps(control.values, control.watched):
            found += self._watched(control, step)
        return found

    def _watched(self, control: Control, step: Step) -> list[tuple[Control, int]]:
        effect = self._effects[step.effect]
        zaps = control.zaps + (effect.ended >= 0)
        self.bound = max(self.bound, zaps)
        return [] if effect.returns else [(Control(step.values, step.local, zaps), step.shift)]

    def _moves(self, control: Control, node: int) -> list[tuple[Control, int, int]]:
        found = []
        waits = self._waits(control.values, control.watched)
        for step in self._alike.steps(control.values, node):
            zaps = control.zaps + (waits and self._effects[step.effect].ended >= 0)
            self.bound = max(self.bound, zaps)
            watched = self._alike.shifted(control.watched, step.shift)
            after = Control(step.values, watched, zaps)
            found.append((after, step.local, step.shift))
        return found

    def _waits(self, values: int, node: int) -> bool:
        return not self._alike.takes_lock(node) and not self._alike.can_move(values, node)

    def _check_waits(self) -> None:
        for values, graph in self._anonymous.items():
            for node, row in graph.items():
                if node == IDLE:
                    continue
                if self._alike.holds_lock(node) and not self._alike.can_move(values, node):
                    raise NotProvedError("a vCPU that holds a lock may be blocked")
                if self._alike.steps(values, node) and not self._alike.takes_lock(node):
                    self._check_stays(values, node, row)

    def _check_stays(self, values: int, node: int, row: int) -> None:
        for other in bits(row):
            for step in self._alike.steps(values, other):
                if not self._alike.can_move(step.values, self._alike.shifted(node, step.shift)):
                    raise NotProvedError("a wait that could end may be blocked again")

    def _check_loops(self) -> None:
        """See that no circle of steps inside a call is without a zap, or all under a lock."""
        after: dict[int, set[int]] = {}
        shifts: dict[int, set[int]] = {}
        for values, graph in self._anonymous.items():
            for node in graph:
                shifts[node] = {self._alike.shifted(node, by) for by in self._steps.shifts}
                for step in self._alike.steps(values, node):
                    zaps = self._effects[step.effect].ended >= 0
                    if zaps and not self._alike.holds_lock(node):
                        continue
                    if IDLE not in (node, step.local):
                        after.setdefault(node, set()).add(step.local)
        nothing: set[int] = set()
        found = components(
            len(self._alike), lambda node: after.get(node, nothing) | shifts.get(node, nothing)
        )
        part = {node: number for number, nodes in enumerate(found) for node in nodes}
        self.ranks = [part[node] for node in range(len(part))]
        if any(part[node] == part[each] for node, then in after.items() for each in then):
            raise NotProvedError("a call may go round without a zap, or under a lock")
