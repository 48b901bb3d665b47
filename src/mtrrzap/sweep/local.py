"""Workers on this machine: a process and a socket each.

``concurrent.futures`` breaks the whole pool when one worker dies, and does not say which task that
worker had. Here it is the task at the socket that has ended.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import IO

from mtrrzap.errors import UserError
from mtrrzap.sweep.worker import Job, TaskOutcome, prepare, work

STARTS = 3
"""Workers in a row that may die before they are ready."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    ready: bool = False
    task: tuple[int, ...] | None = None


class LocalPool:
    """So many worker processes; one that dies is replaced."""

    def __init__(self, job: Job, processes: int) -> None:
        """Start the workers; they make ready while the first cells are chosen."""
        self._job = job
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the pool
        self._stillborn = 0
        self._workers = [self._start() for _ in range(processes)]

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            # Its own process group: Ctrl-C is for the parent alone.
            process = subprocess.Popen(
                [sys.executable, "-m", "mtrrzap.sweep.local", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=self._errors,
                process_group=0,
            )
        worker = _Worker(process, Connection(ours.detach()))
        with contextlib.suppress(OSError):  # it is dead: that is seen when it does not answer
            worker.connection.send(self._job)
        return worker

    def free(self) -> list[int]:
        """Return the workers without a task; one that is not ready yet finds it at its socket."""
        return [lane for lane, worker in enumerate(self._workers) if worker.task is None]

    def submit(self, lane: int, numbers: tuple[int, ...]) -> None:
        """Hand a task to a worker."""
        worker = self._workers[lane]
        worker.task = numbers
        with contextlib.suppress(OSError):  # as above
            worker.connection.send(numbers)

    def outcomes(self, timeout: float) -> list[TaskOutcome]:
        """Return what has ended. Raises ``UserError`` if workers do not even start."""
        lanes = {worker.connection: lane for lane, worker in enumerate(self._workers)}
        found = []
        for connection in wait(list(lanes), timeout):
            lane = lanes[connection]  # type: ignore[index]
            outcome = self._outcome(lane)
            if outcome is not None:
                found.append(outcome)
        return found

    def _outcome(self, lane: int) -> TaskOutcome | None:
        worker = self._workers[lane]
        task, name = worker.task, str(worker.process.pid)
        try:
            told = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(lane)
            return None if task is None else TaskOutcome(lane, task, None, name)
        if not worker.ready:
            worker.ready, self._stillborn = True, 0
            return None
        worker.task = None
        assert task is not None
        return TaskOutcome(lane, task, told, name)

    def _replace(self, lane: int) -> None:
        worker = self._workers[lane]
        worker.connection.close()
        worker.process.wait()
        self._stillborn += not worker.ready
        if self._stillborn >= STARTS:
            raise UserError(f"workers do not start: {self._complaint()}", mend="fix that")
        self._workers[lane] = self._start()

    def _complaint(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "they say nothing"

    def says(self) -> str:
        """Return how many there are."""
        count = len(self._workers)
        return f"{count} process" if count == 1 else f"{count} processes"

    def close(self) -> None:
        """Kill the workers: they hold nothing that is not written."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
        self._errors.close()


def serve(descriptor: int) -> None:
    """Take a job, then tasks, until there are no more: a worker at the other end of a socket.

    It ends when its parent does, however that ends, and leaves Ctrl-C to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(descriptor,), daemon=True).start()
    with Connection(descriptor) as connection:
        try:
            job = connection.recv()
            prepare(job)
            connection.send(None)
            while (numbers := connection.recv()) is not None:
                connection.send(work(job.name, numbers))
        except (EOFError, OSError):  # the parent is gone
            return


def _end_with_parent(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # reports nothing but the end
    poll.poll()
    os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
