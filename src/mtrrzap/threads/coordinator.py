"""A protocol in front of a costly zap of the user's own, called by threads."""

from __future__ import annotations

import inspect
import sys
import threading
from typing import Self

from mtrrzap.errors import UserError
from mtrrzap.protocol import Protocol, Range
from mtrrzap.threads.errand import Errand
from mtrrzap.threads.front import Front
from mtrrzap.threads.runtime import Runtime, Zap


class ZapCoordinator(Front):
    """Lets threads that ask for zaps at the same time share them.

    >>> coordinator = ZapCoordinator(lambda start, end: print(f"zaps [{start:#x}, {end:#x})"))
    >>> coordinator.zap(0x1000, 0x2000)
    zaps [0x1000, 0x2000)
    """

    def __init__(self, zap: Zap, protocol: str | Protocol = "ticket") -> None:
        """``zap(start, end)`` zaps every frame of a range, and more if it likes.

        It is called by the threads that call :meth:`zap`, with other ranges than these asked for:
        merged, and with ``review`` and ``ticket`` rounded up to blocks, or everything.

        Raises:
            UserError: if there is no such protocol, or ``zap`` is not to be called that way.
        """
        super().__init__(zap, protocol)
        if inspect.iscoroutinefunction(zap):
            raise UserError("zap is a coroutine function", mend="use an AsyncZapCoordinator")
        self._zap = zap
        self._runtime = Runtime(self.protocol, zap)

    def zap(self, start: int, end: int) -> None:
        """Return when every frame of ``[start, end)`` is zapped by a zap that began after the call.

        That is what the protocol promises; not all do (``mtrrzap check``).

        Raises:
            ZapError: if zaps raised, and leave frames of the range unzapped.
            ClosedError: if the coordinator is closed, or is meanwhile.
            UserError: if it is no range, or a zap function or signal handler calls this.
            BaseException: what is no Exception and came up in this thread, as on Ctrl-C.
        """
        ranges = self._asked(start, end)
        if _inside(self):
            self._again()
        if threading.get_ident() == threading.main_thread().ident:
            Errand(lambda zap: self._call(ranges, zap), self._zap).run()
        else:
            self._call(ranges, self._zap)

    def _call(self, ranges: tuple[Range, ...], zap: Zap) -> None:
        number = self._numbers.take()
        try:
            self._runtime.call(number, ranges, zap=zap)
        finally:
            self._numbers.give(number)

    def close(self) -> None:
        """End all calls: those that wait raise ClosedError at once, as later ones do."""
        self._runtime.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


_FACES = (ZapCoordinator.zap.__code__, ZapCoordinator._call.__code__)


def _inside(coordinator: ZapCoordinator) -> bool:
    """Say whether this thread is in a call already: in its zap, a signal handler, a finalizer.

    The stack says it, and cannot be left wrong by an exception that comes at a bad moment.
    """
    frame = sys._getframe(1).f_back
    while frame is not None:
        if frame.f_code in _FACES and frame.f_locals.get("self") is coordinator:
            return True
        frame = frame.f_back
    return False
