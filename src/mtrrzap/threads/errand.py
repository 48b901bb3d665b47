"""The main thread's calls, run by a thread of their own.

Signal handlers run in the main thread, between any two of its instructions, and may raise: Ctrl-C
does. A protocol that is torn there would leave its lock held, or a batch that nobody zaps. So the
main thread only waits and zaps; if it leaves early, the errand is run to its end without it.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock

from mtrrzap.threads.runtime import Zap


class _Job:
    """One zap that the main thread is to do."""

    def __init__(self, zap: Zap, start: int, end: int) -> None:
        self._zap = zap
        self._range = (start, end)
        self.value: object = None
        self.error: BaseException | None = None
        self.ran = False
        self.over: SimpleQueue[None] = SimpleQueue()

    def run(self) -> None:
        """Zap; what is no Exception is raised here as well."""
        try:
            self.value = self._zap(*self._range)
        except BaseException as error:
            self.error = error
            self.ran = True
            if not isinstance(error, Exception):
                raise
        self.ran = True
        self.over.put(None)


class Errand:
    """One call on behalf of the main thread."""

    def __init__(self, call: Callable[[Zap], None], zap: Zap) -> None:
        """``call`` makes the call, with the function that it is to zap with."""
        self._call = call
        self._zap = zap
        self._lock = Lock()
        self._left = False
        self._job: _Job | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Start it, do its zaps, return when it is over; raise what the call raises."""
        try:
            try:
                # One step, which no handler can interrupt: threading.Thread.start() is several.
                _thread.start_new_thread(self._work, ())
            except RuntimeError:  # no thread to be had, as when the interpreter ends
                self._call(self._zap)
                return
            while (job := self._jobs.get()) is not None:
                job.run()
        finally:
            with self._lock:
                self._left = True
            if self._job is not None:
                self._job.over.put(None)
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self._call(self._ferried)
        except BaseException as error:
            self._error = error
        finally:
            self._jobs.put(None)

    def _ferried(self, start: int, end: int) -> object:
        """Let the main thread zap, or do it here if that is gone."""
        with self._lock:
            gone = self._left
            if not gone:
                self._job = job = _Job(self._zap, start, end)
        if not gone:
            self._jobs.put(job)
            job.over.get()
            if job.error is not None:
                raise job.error
            if job.ran:
                return job.value
        return self._zap(start, end)
