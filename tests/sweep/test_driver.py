"""The same rows whoever runs them; a cell that breaks is a row; a worker that dies is replaced."""

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from helpers.sweeps import CHECK, SIMULATE, Inline, job_of, nothing, run_inline
from mtrrzap.checker.schedule import replay
from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS
from mtrrzap.sweep.cluster import DaskCluster
from mtrrzap.sweep.driver import Driver, Executor, SweepState
from mtrrzap.sweep.grid import Identity
from mtrrzap.sweep.local import LocalPool
from mtrrzap.sweep.store import Store
from mtrrzap.sweep.worker import TaskOutcome, prepare

KINDS = {"simulate": SIMULATE, "check": CHECK}


def rows(results: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = pyarrow.parquet.read_table(results / "cells.parquet").to_pylist()
    return listed


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What each kind's sweep gives in one process."""
    found = {}
    for kind, text in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        run_inline(folder, text, folder / "results")
        found[kind] = (folder / "results/cells.parquet").read_bytes()
    return found


class Killing:
    """An executor of which a worker is killed once, in the middle of a task."""

    def __init__(self, inner: Executor, pids: list[int]) -> None:
        self._inner, self._pids = inner, pids
        self.lost = 0
        self._outcomes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def outcomes(self, timeout: float) -> Any:
        found = self._inner.outcomes(timeout)
        before, self._outcomes = self._outcomes, self._outcomes + len(found)
        if before < 2 <= self._outcomes:
            os.kill(self._pids[0], signal.SIGKILL)
        self.lost += sum(outcome.ran is None for outcome in found)
        return found


def through(executor: Executor, text: str, folder: Path) -> tuple[SweepState, bytes]:
    spec, job, manifest, _ = job_of(folder, text)
    store = Store(folder / "results", spec.grid.kind, nothing)
    try:
        store.open(manifest, text)
        driver = Driver(job, store)
        state = driver.run(executor, lambda: False, nothing)
        store.complete()
        return state, (folder / "results/cells.parquet").read_bytes()
    finally:
        executor.close()
        store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_and_two_give_the_same(
    kind: str, tmp_path: Path, inline: dict[str, bytes]
) -> None:
    job = job_of(tmp_path, KINDS[kind])[1]
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        state, made = through(LocalPool(job, processes), KINDS[kind], folder)
        assert state.complete
        assert made == inline[kind]


def test_a_killed_process_changes_nothing(
    tmp_path: Path, inline: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    class Counted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self.pid)

    monkeypatch.setattr("mtrrzap.sweep.local.subprocess.Popen", Counted)
    pool = LocalPool(job_of(tmp_path, SIMULATE)[1], 2)
    state, made = through(Killing(pool, started[:1]), SIMULATE, tmp_path)
    assert (state.counts.failed, made) == (0, inline["simulate"])
    assert len(started) == 3  # two, and the one in the dead one's place


@pytest.fixture(scope="module")
def cluster() -> Any:
    """A scheduler and two workers on this machine."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_a_cluster_gives_the_same_though_a_worker_is_killed(
    kind: str, tmp_path: Path, inline: dict[str, bytes], cluster: Any
) -> None:
    job = job_of(tmp_path, KINDS[kind])[1]
    pids = [worker.pid for worker in cluster.workers.values()]
    executor = DaskCluster(job, cluster.scheduler_address)
    assert len(executor.free()) == 2
    state, made = through(Killing(executor, pids), KINDS[kind], tmp_path)
    assert (state.counts.failed, made) == (0, inline[kind])


def test_a_cluster_with_other_code_is_refused(tmp_path: Path, cluster: Any) -> None:
    job = replace(job_of(tmp_path, SIMULATE)[1], made_by=Identity("0.0.1", "0" * 16))
    with pytest.raises(
        UserError, match=r"tcp://.* runs mtrrzap .*, this is mtrrzap 0\.0\.1, code 00"
    ):
        DaskCluster(job, cluster.scheduler_address)
    with pytest.raises(UserError, match=r"the worker runs .* install the same mtrrzap"):
        prepare(job)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://", "127.0.0.1:x"])
def test_a_scheduler_that_is_not_there(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtrrzap.sweep.cluster.CONNECT", 0.2)
    job = job_of(tmp_path, SIMULATE)[1]
    with pytest.raises(UserError, match=r"scheduler: .* cannot be used: .*; give the address"):
        DaskCluster(job, address)


HEAD = "from mtrrzap.protocol import *\nimport os\nclass V(Vm):\n    flag = Atomic(0)\n"
MINE = HEAD + (
    "def good(vm: V, ranges):\n    yield vm.mmu.zap(*ranges[0])\n"
    "def bad(vm: V, ranges):\n    yield vm.flag.load()\n    return [][1]\n"
    "def deadly(vm: V, ranges):\n    yield vm.flag.load()\n    os._exit(3)\n"
)
OWN = """\
kind = "check"
[grid]
protocols = ["mine.py:good", "mine.py:bad", "mine.py:deadly"]
executions = 5
strategies = "pct"
"""


def test_a_cell_that_breaks_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    job = job_of(tmp_path, OWN)[1]
    (tmp_path / "mine.py").unlink()  # what a cell needs has come with the job
    (tmp_path / "mine.py").write_text(MINE)
    state, _ = through(LocalPool(job, 2), OWN, tmp_path)
    good, bad, deadly = rows(tmp_path / "results")
    assert (good["status"], good["verdict"], good["executions"]) == ("done", "not seen", 5)
    assert bad["status"] == "refused"
    assert bad["reason"].startswith("mine.py:9: ")  # not where the worker keeps its copy
    assert "IndexError" in bad["reason"]
    assert (deadly["status"], deadly["reason"]) == ("failed", "the cell ended its worker 3 times")
    assert deadly["protocol"] == "mine.py:deadly"
    assert (state.counts.done, state.counts.refused, state.counts.failed) == (1, 1, 1)


def test_who_is_innocent_of_a_death_is_run_again(tmp_path: Path, inline: dict[str, bytes]) -> None:
    """Whatever task cell 7 is in, its worker dies."""
    results = tmp_path / "results"
    state, tasks = run_inline(tmp_path, SIMULATE, results, deadly=lambda task: 7 in task)
    assert (state.counts.rows, state.counts.failed) == (48, 1)
    assert sum(task == (7,) for task in tasks) >= 3
    failed = [row["number"] for row in rows(results) if row["status"] == "failed"]
    assert failed == [7]
    state, tasks = run_inline(tmp_path, SIMULATE, results)
    assert tasks == []
    state, tasks = run_inline(tmp_path, SIMULATE, results, retry_failed=True)
    assert tasks == [(7,)]
    assert (results / "cells.parquet").read_bytes() == inline["simulate"]


class Late(Inline):
    """Has no worker at first."""

    looked = 0

    def free(self) -> list[int]:
        self.looked += 1
        return super().free() if self.looked > 5 else []

    def outcomes(self, timeout: float) -> list[TaskOutcome]:
        return super().outcomes(timeout) if self.tasks else []


def test_workers_may_come_late(tmp_path: Path, inline: dict[str, bytes]) -> None:
    executor = Late(job_of(tmp_path, SIMULATE)[1])
    assert through(executor, SIMULATE, tmp_path)[1] == inline["simulate"]


def test_the_first_violation_ends_its_world(tmp_path: Path) -> None:
    text = CHECK.replace("vcpus = 4", "vcpus = [3, 4]\nstrategies = 'pct'").replace("2 }", "9 }")
    state, _ = run_inline(tmp_path, text + "stop-at-first = true\n", tmp_path / "results")
    assert state.complete
    found = [(row["protocol"], row["vcpus"], row["verdict"]) for row in rows(tmp_path / "results")]
    for vcpus in (3, 4):
        assert found.count(("v4", vcpus, "violated")) >= 1
        assert found.count(("ticket", vcpus, "not seen")) == 10
    assert state.dropped == 40 - len(found) > 0
    again, tasks = run_inline(tmp_path, text + "stop-at-first = true\n", tmp_path / "results")
    assert (again.complete, tasks) == (True, [])


def test_the_swarm_finds_what_is_there(tmp_path: Path) -> None:
    run_inline(tmp_path, CHECK, tmp_path / "results")
    found = rows(tmp_path / "results")
    assert [row["verdict"] for row in found if row["protocol"] == "ticket"] == ["not seen"] * 6
    seen = [
        (row["strategy"], row["seed"], row["executions"], row["schedule_steps"])
        for row in found
        if row["verdict"] == "violated"
    ]
    assert seen == [("pct", 0, 12, 20), ("pct", 1, 10, 20), ("pct", 2, 22, 20)]
    again = replay(found[0]["schedule"], "row", PROTOCOLS.__getitem__)
    assert (again.prop, again.scenario.vcpus) == ("lost zap", 4)
