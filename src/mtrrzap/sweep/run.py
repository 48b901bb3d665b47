"""The driver: hands out cells, collects rows, and writes what has come before it goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mtrrzap.sweep.cell import cell_of
from mtrrzap.sweep.columns import FAILED, VIOLATED, Row
from mtrrzap.sweep.executor import Executor, Outcome
from mtrrzap.sweep.pending import Pending
from mtrrzap.sweep.store import Counts, Store
from mtrrzap.sweep.work import TURN, Job, described, framed

MOST = 256
"""Cells of one task."""
DEATHS = 3
"""Workers that a cell may end, alone with it, before that is its result."""
PATIENCE = 0.2
"""Seconds between two looks at Ctrl-C."""


@dataclass
class State:
    """Where a sweep stands."""

    cells: int
    counts: Counts = field(default_factory=Counts)
    new: int = 0
    """Rows of this run."""
    dropped: int = 0
    """Cells not run, since their world is violated and the spec says so."""

    @property
    def complete(self) -> bool:
        """Nothing is left to run."""
        return self.counts.rows + self.dropped >= self.cells


class Driver:
    """Runs what is missing of one sweep."""

    def __init__(self, job: Job, store: Store, *, retry_failed: bool = False) -> None:
        """Look at what is there already."""
        self._job, self._store = job, store
        # Policies share a guest; executions share nothing.
        self._pending = Pending(len(job.grid), job.grid.stride("seed"))
        self.state = State(len(job.grid))
        self.violations: dict[int, tuple[int, int]] = {}
        """Of each world, by its first cell: steps and number of the smallest counterexample."""
        self._suspects: deque[tuple[int, int]] = deque()
        self._alone: dict[int, int] = {}
        self._flying = 0
        self._seconds: float | None = None
        for rows in store.known(retry_failed=retry_failed):
            self._count([row for row in rows if row["number"] in self._pending])

    def run(
        self,
        executor: Executor,
        stopping: Callable[[], bool],
        tell: Callable[[State], None],
    ) -> State:
        """Run until all is done, or until it is told to stop and what is in flight has landed."""
        while True:
            if not stopping():
                self._hand_out(executor)
            if not self._flying and (stopping() or not (self._pending.left or self._suspects)):
                break
            outcomes = executor.outcomes(PATIENCE)
            rows = [row for outcome in outcomes for row in self._landed(outcome)]
            if not stopping():
                self._hand_out(executor)  # before the disk is waited for
            if rows:
                self._store.add(rows)
                self._count(rows)
                self.state.new += len(rows)
            tell(self.state)
        return self.state

    def _hand_out(self, executor: Executor) -> None:
        for lane in executor.free():
            numbers = self._pending.next(lane, self._size(executor))
            if not numbers and self._suspects and not self._flying:
                number, deaths = self._suspects.popleft()
                self._alone = {number: deaths}
                numbers = (number,)
            if numbers:
                self._flying += 1
                executor.submit(lane, numbers)

    def _size(self, executor: Executor) -> int:
        fair = self._pending.left // (4 * max(1, len(executor.free())))
        if self._seconds is None:
            return 1
        return max(1, min(MOST, int(TURN / self._seconds), fair))

    def _landed(self, outcome: Outcome) -> list[Row]:
        """Return the rows of a task, and see to what it did not do."""
        self._flying -= 1
        if outcome.ran is None:
            return self._lost(outcome.numbers)
        ran = outcome.ran
        self._pending.put_back(outcome.lane, outcome.numbers[len(ran) :])
        mean = sum(each.seconds for each in ran) / len(ran)
        self._seconds = max(1e-4, mean if self._seconds is None else (self._seconds + mean) / 2)
        return [{**e.row, "seconds": e.seconds, "worker": outcome.worker} for e in ran]

    def _lost(self, numbers: tuple[int, ...]) -> list[Row]:
        """Try the cells of a dead worker again, at the end and one by one."""
        rows = []
        for number in numbers:
            alone = number in self._alone
            deaths = self._alone.pop(number, 0) + alone
            if deaths < DEATHS:
                self._suspects.append((number, deaths))
            else:
                cell = cell_of(self._job.grid, number)
                why = f"the cell ended its worker {DEATHS} times"
                row = {**framed(self._job, number, cell), **described(cell)}
                rows.append(
                    {**row, "status": FAILED, "reason": why, "seconds": None, "worker": None}
                )
        return rows

    def _count(self, rows: list[Row]) -> None:
        self._pending.drop(row["number"] for row in rows)
        for row in rows:
            self.state.counts.add(row["status"], row.get("verdict"))
            if row.get("verdict") == VIOLATED:
                self._violated(row["number"], row["schedule_steps"])

    def _violated(self, number: int, steps: int) -> None:
        stride = self._job.grid.stride("requests")
        world = number // stride * stride
        self.violations[world] = min(self.violations.get(world, (steps, number)), (steps, number))
        if self._job.stop_at_first:
            self.state.dropped += self._pending.drop(range(world, world + stride))
