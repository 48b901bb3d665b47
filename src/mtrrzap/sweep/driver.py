"""The driver of a sweep: hands out cells to workers, collects their rows and writes them."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mtrrzap.sweep.columns import FAILED, VIOLATED, Row
from mtrrzap.sweep.grid import cell_of
from mtrrzap.sweep.store import Counts, Store
from mtrrzap.sweep.worker import TURN, Job, TaskOutcome, framed

MOST = 256
"""Cells of one task."""
DEATHS = 3
"""Workers that a cell may kill while it runs alone; then the cell has failed."""
PATIENCE = 0.2
"""Seconds between two looks at Ctrl-C."""


@dataclass
class SweepState:
    """Where a sweep stands."""

    cells: int
    counts: Counts = field(default_factory=Counts)
    new: int = 0
    """Rows of this run."""
    dropped: int = 0
    """Cells skipped: a violation ended their protocol, vCPUs and requests (``stop-at-first``)."""

    @property
    def complete(self) -> bool:
        """Nothing is left to run."""
        return self.counts.rows + self.dropped >= self.cells


class Executor(Protocol):
    """A pool of workers, each of which has one task or none."""

    def free(self) -> Sequence[int]:
        """Return the lanes that can take a task now. A lane is a worker where that can be."""

    def submit(self, lane: int, numbers: tuple[int, ...]) -> None:
        """Hand a task over to a free lane."""

    def outcomes(self, timeout: float) -> list[TaskOutcome]:
        """Return the tasks that have ended; wait at most ``timeout`` seconds."""

    def says(self) -> str:
        """Return a few words on the workers for the progress line."""

    def close(self) -> None:
        """End the workers, whatever they do."""


class Pending:
    """The cells that are neither run nor running, one bit each, and which lane takes which.

    Neighbouring cells share a guest, which takes longer to prepare than to simulate. So each lane
    has a stretch of the grid to itself, and at its end takes half of what the longest one has left.
    """

    def __init__(self, cells: int, together: int = 1) -> None:
        """``together`` neighbours share a guest: they are not divided between lanes."""
        self._cells = cells
        self._together = together
        self._gone = bytearray(-(-cells // 8))
        self.left = cells
        self._stretches: dict[int, tuple[int, int]] = {}
        self._whole = (0, cells)

    def drop(self, numbers: Iterable[int]) -> int:
        """Take cells out; return how many of them were in."""
        before = self.left
        for number in numbers:
            self._take(number)
        return before - self.left

    def _take(self, number: int) -> bool:
        byte, bit = number >> 3, 1 << (number & 7)
        if self._gone[byte] & bit:
            return False
        self._gone[byte] |= bit
        self.left -= 1
        return True

    def put_back(self, lane: int, numbers: Sequence[int]) -> None:
        """Return the last cells of a lane's task: the lane takes them next."""
        for number in numbers:
            self._gone[number >> 3] &= ~(1 << (number & 7))
        self.left += len(numbers)
        if numbers:
            _, end = self._stretches[lane]
            self._stretches[lane] = (numbers[0], max(end, numbers[-1] + 1))

    def __contains__(self, number: int) -> bool:
        return not self._gone[number >> 3] & 1 << (number & 7)

    def next(self, lane: int, count: int) -> tuple[int, ...]:
        """Return up to ``count`` cells for a lane; an empty tuple if none are left."""
        found: list[int] = []
        while len(found) < count and self.left:
            start, end = self._stretches.get(lane, (0, 0))
            if start >= end:
                if found:  # no stretch is begun in the middle of a task
                    break
                start, end = self._stretch()
            start = self._skip(start, end)
            if start < end and self._take(start):
                found.append(start)
                start += 1
            self._stretches[lane] = (start, end)
        return tuple(found)

    def _skip(self, start: int, end: int) -> int:
        """Return the first cell from ``start`` on that is in, eight at a time where none is."""
        while start < end:
            if start & 7 == 0 and self._gone[start >> 3] == 0xFF:
                start += 8
            elif start in self:
                return start
            else:
                start += 1
        return end

    def _stretch(self) -> tuple[int, int]:
        if not self._stretches:
            return self._whole
        other = max(self._stretches, key=lambda at: self._stretches[at][1] - self._stretches[at][0])
        start, end = self._stretches[other]
        middle = (start + end) // 2 // self._together * self._together
        if middle <= start:
            middle = start + (end - start) // 2
        self._stretches[other] = (start, middle)
        return middle, end


class Driver:
    """Runs the missing cells of one sweep."""

    def __init__(self, job: Job, store: Store, *, retry_failed: bool = False) -> None:
        self._job, self._store = job, store
        # Policies share a guest; executions share nothing.
        self._pending = Pending(len(job.grid), job.grid.stride("seed"))
        self.state = SweepState(len(job.grid))
        self.violations: dict[int, tuple[int, int]] = {}
        """By the first cell of a protocol, vCPUs and requests: steps and cell of the smallest
        counterexample."""
        self._suspects: deque[tuple[int, int]] = deque()
        self._alone: dict[int, int] = {}
        self._flying = 0
        self._seconds: float | None = None
        for rows in store.known(retry_failed=retry_failed):
            self._count([row for row in rows if row["number"] in self._pending])

    def run(
        self, executor: Executor, stopping: Callable[[], bool], tell: Callable[[SweepState], None]
    ) -> SweepState:
        """Run until all cells are done, or until ``stopping`` and the running tasks have ended."""
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

    def _landed(self, outcome: TaskOutcome) -> list[Row]:
        """Return the rows of a task, and put back the cells that it did not run."""
        self._flying -= 1
        if outcome.ran is None:
            return self._lost(outcome.numbers)
        ran = outcome.ran
        self._pending.put_back(outcome.lane, outcome.numbers[len(ran) :])
        mean = sum(each.seconds for each in ran) / len(ran)
        self._seconds = max(1e-4, mean if self._seconds is None else (self._seconds + mean) / 2)
        return [{**e.row, "seconds": e.seconds, "worker": outcome.worker} for e in ran]

    def _lost(self, numbers: tuple[int, ...]) -> list[Row]:
        """Run the cells of a dead worker again, at the end and one by one."""
        rows = []
        for number in numbers:
            alone = number in self._alone
            deaths = self._alone.pop(number, 0) + alone
            if deaths < DEATHS:
                self._suspects.append((number, deaths))
            else:
                cell = cell_of(self._job.grid, number)
                why = f"the cell ended its worker {DEATHS} times"
                row = {**framed(self._job, number, cell), **cell.described()}
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
        first = number // stride * stride
        self.violations[first] = min(self.violations.get(first, (steps, number)), (steps, number))
        if self._job.stop_at_first:
            self.state.dropped += self._pending.drop(range(first, first + stride))
