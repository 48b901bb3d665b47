"""What the tests of sweeps share: small specs, and an executor that needs no process."""

from collections.abc import Callable
from pathlib import Path

from mtrrzap.sweep import inputs as sweep_inputs
from mtrrzap.sweep.columns import Row
from mtrrzap.sweep.driver import Driver, SweepState
from mtrrzap.sweep.spec import Spec
from mtrrzap.sweep.store import Store
from mtrrzap.sweep.worker import Bench, Job, TaskOutcome

SIMULATE = """\
kind = "simulate"
[grid]
traces = ["seabios-8", "ovmf-8"]
vcpus = [8, 9]
memory = ["16G", "1T"]
seeds = { from = 0, to = 1 }
policies = ["Base2", "+9", "ticket"]
"""
"""48 cells, of which 36 are done, and 12 refused: those of OVMF with 1 TiB."""

CHECK = """\
kind = "check"
[grid]
protocols = ["v4", "ticket"]
vcpus = 4
seeds = { from = 0, to = 2 }
executions = 30
[check]
properties = "lost zap"
"""
"""12 cells."""


def nothing(*_: object) -> None:
    """Say nothing, tell nothing."""


def job_of(folder: Path, text: str) -> tuple[Spec, Job, dict[str, object], Path]:
    """Write a spec; return what it asks for, the job, what identifies it, and the file."""
    path = folder / "spec.toml"
    path.write_text(text)
    spec, job, manifest, _ = sweep_inputs.job(path)
    return spec, job, manifest, path


_known: dict[tuple[str, int], Row] = {}


class KnownBench(Bench):
    """Runs a cell once for all tests: they are about what becomes of its row."""

    def _row(self, number: int) -> Row:
        key = (self.job.name, number)
        if key not in _known:
            _known[key] = super()._row(number)
        return _known[key]


class Inline:
    """Runs a task when its outcome is asked for; some cells end their worker."""

    def __init__(
        self, job: Job, deadly: Callable[[tuple[int, ...]], bool] = lambda _: False
    ) -> None:
        self._bench = KnownBench(job)
        self._deadly = deadly
        self._task: tuple[int, ...] | None = None
        self.tasks: list[tuple[int, ...]] = []

    def free(self) -> list[int]:
        return [0] if self._task is None else []

    def submit(self, lane: int, numbers: tuple[int, ...]) -> None:
        assert (lane, self._task) == (0, None)
        self._task = numbers
        self.tasks.append(numbers)

    def outcomes(self, timeout: float) -> list[TaskOutcome]:
        assert timeout > 0
        numbers, self._task = self._task, None
        assert numbers is not None
        ran = None if self._deadly(numbers) else self._bench.run(numbers)
        return [TaskOutcome(0, numbers, ran, "inline")]

    def says(self) -> str:
        return "inline"

    def close(self) -> None:
        pass


def run_inline(
    folder: Path,
    text: str,
    results: Path,
    *,
    stop_after: int | None = None,
    deadly: Callable[[tuple[int, ...]], bool] = lambda _: False,
    retry_failed: bool = False,
) -> tuple[SweepState, list[tuple[int, ...]]]:
    """Run what is missing of a sweep in this process; return its end, and the tasks."""
    spec, job, manifest, _ = job_of(folder, text)
    store = Store(results, spec.grid.kind, nothing)
    try:
        store.open(manifest, text)
        driver = Driver(job, store, retry_failed=retry_failed)
        executor = Inline(job, deadly)
        state = driver.state
        driver.run(executor, lambda: stop_after is not None and state.new >= stop_after, nothing)
        if state.complete:
            store.complete()
        return state, executor.tasks
    finally:
        store.close()
