"""Workers of a Dask cluster. distributed (extra ``cluster``) is imported when it is needed."""

import logging
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.sweep.grid import identity
from mtrrzap.sweep.worker import Job, Ran, TaskOutcome, forget, prepare, prepared, work

PLACE = "scheduler"
CONNECT = 30
"""Seconds for the scheduler to answer, and then for a first worker to be there."""
LOOK = 2.0
"""Seconds between two looks at which workers there are."""


class _Answer(NamedTuple):
    """What a task returns: rows, or what forbids that this worker makes any."""

    worker: str
    ran: list[Ran]
    refused: str | None = None


def run_there(name: str, numbers: Sequence[int], job: Job) -> _Answer:
    """Run on a worker; ``job`` came ahead of the task, and is kept there."""
    worker = import_module("distributed").get_worker().address
    if not prepared(name):
        try:
            prepare(job)
        except UserError as error:
            return _Answer(worker, [], error.problem)
    return _Answer(worker, work(name, numbers))


def _itself(job: Job) -> Job:
    return job


class DaskCluster:
    """The workers of a scheduler; they may come and go."""

    def __init__(self, job: Job, address: str) -> None:
        """Connect, and send the job ahead. Raises ``UserError`` if that cannot be."""
        try:
            self._distributed = import_module("distributed")
        except ImportError as error:
            raise UserError(
                "a cluster needs distributed", place=PLACE, mend="pip install 'mtrrzap[cluster]'"
            ) from error
        # Errors are reported once, below.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        self._job = job
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks: dict[Any, tuple[int, tuple[int, ...]]] = {}
        self._busy: set[int] = set()
        self._number = 0
        self._threads, self._looked = 0, -LOOK
        with _unreachable(address):
            self._client = self._distributed.Client(address, timeout=CONNECT, set_as_default=False)
        try:
            with _unreachable(address):
                self._client.wait_for_workers(1, timeout=CONNECT)
            self._refuse_other_code()
            # A task, not data: what a lost worker held of it is made again.
            self._ahead = self._client.submit(_itself, job, pure=False)
        except BaseException:
            self.close()
            raise

    def _refuse_other_code(self) -> None:
        mend = "install the same mtrrzap, with its dependencies, on all workers"
        try:
            found = self._client.run(identity)
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(f"a worker cannot run this: {why}", place=PLACE, mend=mend) from error
        for worker, theirs in found.items():
            if theirs != self._job.made_by:
                raise UserError(
                    f"{worker} runs {theirs}, this is {self._job.made_by}", place=PLACE, mend=mend
                )

    def free(self) -> list[int]:
        """Return lanes without a task: one for each thread of a worker."""
        now = time.monotonic()
        if now - self._looked >= LOOK and self._client.status == "running":
            self._looked = now
            with suppress(Exception):  # the scheduler does not answer now: we go on as we were
                self._threads = sum(self._client.nthreads().values())
        return [lane for lane in range(self._threads) if lane not in self._busy]

    def submit(self, lane: int, numbers: tuple[int, ...]) -> None:
        """Hand a task to the scheduler, which knows who is idle."""
        self._number += 1
        future = self._client.submit(
            run_there,
            *(self._job.name, numbers, self._ahead),
            key=f"mtrrzap-{self._job.name[:12]}-{time.time_ns()}-{self._number}",
            pure=False,
        )
        self._busy.add(lane)
        self._tasks[future.key] = (lane, numbers)
        future.add_done_callback(self._done.put)

    def outcomes(self, timeout: float) -> list[TaskOutcome]:
        """Return what has ended. Raises ``UserError`` if a worker refuses or all is gone."""
        futures = []
        with suppress(queue.Empty):
            futures.append(self._done.get(timeout=timeout))
            while True:
                futures.append(self._done.get_nowait())
        if not futures and self._client.status != "running":
            raise UserError(
                "the scheduler is gone",
                place=PLACE,
                mend="start it, and run the same command again",
            )
        return [self._outcome(future) for future in futures]

    def _outcome(self, future: Any) -> TaskOutcome:
        lane, numbers = self._tasks.pop(future.key)
        self._busy.discard(lane)
        error = future.exception() if future.status == "error" else None
        if error is not None and not isinstance(error, self._distributed.scheduler.KilledWorker):
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(f"a worker cannot run this: {why}", place=PLACE, mend="fix that")
        if error is not None:
            return TaskOutcome(lane, numbers, None, "")
        if future.status != "finished":
            raise UserError(
                "the scheduler is gone, or has forgotten its tasks",
                place=PLACE,
                mend="start it, and run the same command again",
            )
        answer: _Answer = future.result()
        if answer.refused is not None:
            raise UserError(
                f"{answer.worker}: {answer.refused}",
                place=PLACE,
                mend="install the same mtrrzap on all workers",
            )
        return TaskOutcome(lane, numbers, answer.ran, answer.worker)

    def says(self) -> str:
        """Return how many threads there are."""
        count = self._threads
        return "no workers" if not count else f"{count} thread{'s' if count != 1 else ''} of Dask"

    def close(self) -> None:
        """Disconnect; the cluster stays."""
        with suppress(Exception):
            if self._client.status == "running":  # else each call waits for a scheduler
                self._client.run(forget, self._job.name, wait=False)
        with suppress(Exception):
            self._client.close(timeout=2)


@contextmanager
def _unreachable(address: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        timed_out = isinstance(error, TimeoutError)
        why = "no answer, or no worker" if timed_out else " ".join(str(error).split())
        raise UserError(
            f"{address} cannot be used: {why}",
            place=PLACE,
            mend="give the address that dask-scheduler printed, tcp://HOST:PORT, with workers",
        ) from error
