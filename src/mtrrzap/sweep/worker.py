"""A worker gets a job once, then numbers of cells, and returns their rows.

A worker reads no file of the user's and writes none: what a cell needs comes with the job, so a
cluster needs no file system in common.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.sweep.columns import FAILED, REFUSED, VIOLATED, Row
from mtrrzap.sweep.grid import Cell, Grid, Identity, SimulateCell, cell_of, ident, identity
from mtrrzap.sweep.simulated import Simulator
from mtrrzap.sweep.swarm import Load, Swarm

TURN = 1.0
"""Seconds after which a worker hands back what it has not begun: so much is lost with it at most,
and so long takes the end that Ctrl-C asks for, or one cell if that takes longer."""


COPIES = "mtrrzap-sweep-"
"""What the folders are called in which workers keep their copies of users' protocol files."""
_COPY = re.compile(rf"\S*/{COPIES}[^/\s]+/[0-9a-f]{{12}}-")


@dataclass(frozen=True)
class Job:
    """A sweep as workers need it."""

    name: str
    grid: Grid
    texts: Mapping[str, str] = field(repr=False)
    """Traces and users' protocols, by the names that cells have for them."""
    sha256: Mapping[str, str] = field(repr=False)
    """Of each input, shipped protocols included."""
    load: Load
    made_by: Identity
    stop_at_first: bool = False


class Ran(NamedTuple):
    """A cell's row, and how long it took."""

    row: Row
    seconds: float


@dataclass(frozen=True)
class TaskOutcome:
    """The end of a task. ``ran`` may be shorter than ``numbers``: the rest was not begun.

    ``ran`` is None if the worker died with it; which of the cells it was at is not known.
    """

    lane: int
    numbers: tuple[int, ...]
    ran: list[Ran] | None
    worker: str


class Bench:
    """A job at work in one process."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._simulator = Simulator(job.texts)
        self._swarm = Swarm(job.texts, job.load)

    def run(self, numbers: Sequence[int]) -> list[Ran]:
        """Run cells in turn until all are done or the turn is over; at least one.

        A violation ends the turn if the spec has ``stop-at-first``.
        """
        started = time.perf_counter()
        ran: list[Ran] = []
        for number in numbers:
            begin = time.perf_counter()
            if ran and begin - started > TURN:
                break
            row = self._row(number)
            ran.append(Ran(row, time.perf_counter() - begin))
            if self.job.stop_at_first and row.get("verdict") == VIOLATED:
                break
        return ran

    def _row(self, number: int) -> Row:
        cell = cell_of(self.job.grid, number)
        row = framed(self.job, number, cell)
        try:
            found = (
                self._simulator.run(cell)
                if isinstance(cell, SimulateCell)
                else self._swarm.run(cell)
            )
            return {**row, **found}
        except UserError as error:
            return {**row, **cell.described(), "status": REFUSED, "reason": one_line(str(error))}
        except (Exception, SystemExit) as error:
            why = one_line(f"{type(error).__name__}: {error}")
            return {**row, **cell.described(), "status": FAILED, "reason": why}


def framed(job: Job, number: int, cell: Cell) -> Row:
    """Return the columns that every row has."""
    sha256 = job.sha256[cell.source]
    return {
        "number": number,
        "cell": ident(cell, sha256, job.made_by),
        "input_sha256": sha256,
        "version": job.made_by.version,
        "code": job.made_by.code,
    }


def one_line(text: str, limit: int = 500) -> str:
    """Return a reason that fits a row, and is the same on every machine: copies have no folder."""
    line = _COPY.sub("", " ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


_benches: dict[str, Bench] = {}


def prepare(job: Job) -> None:
    """Keep a job for the tasks to come. Raises ``UserError`` if other code made it."""
    here = identity()
    if here != job.made_by:
        raise UserError(
            f"the worker runs {here}, the sweep {job.made_by}",
            place="scheduler",
            mend="install the same mtrrzap on all workers",
        )
    if job.name not in _benches:
        _benches[job.name] = Bench(job)


def forget(name: str) -> None:
    """Let a job go."""
    _benches.pop(name, None)


def work(name: str, numbers: Sequence[int]) -> list[Ran]:
    """Run cells of a job that was prepared in this process."""
    return _benches[name].run(numbers)


def prepared(name: str) -> bool:
    """Tell if this process has a job."""
    return name in _benches
