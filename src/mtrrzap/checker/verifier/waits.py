"""Verify what no view can show: that somebody can move, and that no call waits for ever."""

from __future__ import annotations

from collections.abc import Iterator

from mtrrzap.checker.verifier.vcpu import ENDS, IDLE, CertifiedVcpu, Step, expect
from mtrrzap.protocol.meaning import is_lock


class Waits:
    """Clauses and ranks, where nobody is watched: a node is a state there."""

    def __init__(
        self, vcpu: CertifiedVcpu, clauses: list[tuple[int, int]], ranks: list[int]
    ) -> None:
        """Clause ``(values, row)``: with these values, one vCPU at least is in a state of the row.

        One more idle vCPU changes nothing, so a clause with ``IDLE`` in it is true.
        """
        self.vcpu, self.ranks = vcpu, ranks
        self.clauses: dict[int, list[int]] = {}
        for values, row in clauses:
            self.clauses.setdefault(values, []).append(row)

    def check_somebody(self, values: int, graph: dict[int, int], start: int) -> None:
        """See that somebody can move when one waits, and that clauses follow from those before."""
        mine = self.clauses.get(values, [])
        expect(values != start or all(row & 1 << IDLE for row in mine), "nobody at the start")

        def follows(wanted: int) -> bool:
            return bool(wanted & 1 << IDLE) or any(not row & ~wanted for row in mine)

        able = {node for node in graph if all(each for _, each in self.vcpu.steps(values, node))}
        moving = sum(1 << node for node in able - {IDLE})
        expect(able == {*graph} or follows(moving), "nobody may be able to move")
        for node, row in graph.items():
            for step in self._steps(values, node):
                for clause in self.clauses.get(step.values, []):
                    # Before this step one was in a state that leads to the clause's, or in one
                    # in which nobody is when the step is made.
                    before = sum(
                        1 << other
                        for other in graph.keys() - {node}
                        if not row >> other & 1 or clause >> self._after(other, step) & 1
                    )
                    true = clause >> step.state & 1 or follows(before)
                    expect(true, "somebody may have left")

    def check_waits(self, values: int, graph: dict[int, int]) -> None:
        """See that a call which does not return sits through more and more zaps.

        So it does if nothing blocks who holds a lock, a wait that can end stays so, and between two
        zaps, or under a lock, every step leads to a lower rank (see ``any_number.waiting``).
        """
        for node in graph.keys() - {IDLE}:
            for local, steps in self.vcpu.steps(values, node):
                expect(steps or not local.held, "who holds a lock may be blocked")
                for step in steps:
                    free = step.state == IDLE or (step.phase == ENDS and not local.held)
                    expect(free or self.ranks[step.state] < self.ranks[node], "a call may go round")
                leaves = steps and local.operation and not is_lock(local.operation)
                for other in graph:
                    for step in self._steps(values, other) if graph[node] >> other & 1 else ():
                        after = self._after(node, step)
                        expect(self.ranks[after] <= self.ranks[node], "a call may go round")
                        blocked = leaves and self.vcpu.waits(step.values, after)
                        expect(not blocked, "a wait that can end may be blocked again")

    def _after(self, other: int, step: Step) -> int:
        return self.vcpu.shift(other, step.shift)

    def _steps(self, values: int, node: int) -> Iterator[Step]:
        return (step for _, steps in self.vcpu.steps(values, node) for step in steps)
