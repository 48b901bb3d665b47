"""A protocol in front of a costly zap of the user's own, called by threads."""

import _thread
import inspect
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock
from typing import Self

from mtrrzap.errors import UserError
from mtrrzap.protocol import Protocol, Range
from mtrrzap.threads.front import Front
from mtrrzap.threads.runtime import Runtime, Zap


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
        """Zap; an error that is not an Exception is raised here as well."""
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
    """One call of the main thread, made by a thread of its own.

    Signal handlers run in the main thread, between any two of its instructions, and may raise:
    Ctrl-C does. A protocol that stops halfway would leave its lock held, or a batch that nobody
    zaps. So the main thread only waits and zaps; if it leaves early, the call goes on without it.
    """

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
            except RuntimeError:  # no thread can be started, as when the interpreter ends
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
        """Let the main thread zap, or do it here if it has left."""
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


class ZapCoordinator(Front):
    """Lets threads that ask for zaps at the same time share them.

    >>> coordinator = ZapCoordinator(lambda start, end: print(f"zaps [{start:#x}, {end:#x})"))
    >>> coordinator.zap(0x1000, 0x2000)
    zaps [0x1000, 0x2000)
    """

    def __init__(self, zap: Zap, protocol: str | Protocol = "ticket") -> None:
        """``zap(start, end)`` zaps every frame of a range; it may zap more.

        The threads that call :meth:`zap` call it, with other ranges than they ask for: merged, and
        with ``review`` and ``ticket`` rounded up to blocks, or everything.

        Raises:
            UserError: if there is no such protocol, or ``zap`` cannot be called that way.
        """
        super().__init__(zap, protocol)
        if inspect.iscoroutinefunction(zap):
            raise UserError("zap is a coroutine function", mend="use an AsyncZapCoordinator")
        self._zap = zap
        self._runtime = Runtime(self.protocol, zap)

    def zap(self, start: int, end: int) -> None:
        """Return when every frame of ``[start, end)`` is zapped by a zap that began after the call.

        That is what a correct protocol promises; some do not keep it (``mtrrzap check``).

        Raises:
            ZapError: if zaps raised, and leave frames of the range unzapped.
            ClosedError: if the coordinator is closed, before or meanwhile.
            UserError: if the range is invalid, or a zap function or signal handler calls this.
            BaseException: if it was raised in this thread and is not an Exception, as on Ctrl-C.
        """
        ranges = self._asked(start, end)
        if _inside(self):
            self._again()
        if threading.get_ident() == threading.main_thread().ident:
            Errand(lambda zap: self._call(ranges, zap), self._zap).run()
        else:
            self._call(ranges, self._zap)

    def _call(self, ranges: tuple[Range, ...], zap: Zap) -> None:
        self._runtime.call(threading.get_ident(), ranges, zap=zap)  # a thread has one call only

    def close(self) -> None:
        """End all calls: those that wait and later ones raise ClosedError at once."""
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_FACES = (ZapCoordinator.zap.__code__, ZapCoordinator._call.__code__)


def _inside(coordinator: ZapCoordinator) -> bool:
    """Say whether this thread is in a call already: in its zap, a signal handler, a finalizer.

    The stack tells, and an exception at a bad moment cannot make it wrong, unlike a flag.
    """
    frame = sys._getframe(1).f_back
    while frame is not None:
        if frame.f_code in _FACES and frame.f_locals.get("self") is coordinator:
            return True
        frame = frame.f_back
    return False
