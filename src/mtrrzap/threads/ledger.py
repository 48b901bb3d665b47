"""Which zaps failed, and whose frames that leaves unzapped.

A protocol knows nothing of exceptions: for it a zap that raised has ended. What such a zap leaves
behind is settled here, by a logical clock that ticks whenever a call or a zap begins: a caller's
frames are zapped if zaps that began after the call, and did not raise, cover them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

from mtrrzap.protocol import Range
from mtrrzap.threads.errors import ZapError, ZapInterruptedError

_ZAPS = 4096
"""Successful zaps remembered. If more end during one call, that call may be told of a failure
although a zap so long ago covered it: too much is reported then, never too little."""
_FAILURES = 64
"""Failures remembered for one call, likewise."""


class Failure(NamedTuple):
    """A zap that raised."""

    start: int
    end: int
    error: Exception


class Call:
    """One call in progress."""

    __slots__ = ("begin", "failures", "ranges")

    def __init__(self, begin: int, ranges: tuple[Range, ...]) -> None:
        """``begin`` is the tick at which it began."""
        self.begin = begin
        self.ranges = ranges
        self.failures: list[Failure] = []

    def note(self, failure: Failure) -> None:
        """Remember a failed zap, if it covers a frame of this call."""
        if not any(failure.start < end and start < failure.end for start, end in self.ranges):
            return
        if len(self.failures) == _FAILURES:  # keep its frames with those of the last one
            last = self.failures.pop()
            start, end = min(last.start, failure.start), max(last.end, failure.end)
            failure = Failure(start, end, failure.error)
        self.failures.append(failure)


class Ledger:
    """The calls in progress, the zaps of late, and the clock."""

    def __init__(self) -> None:
        """Start at tick 0."""
        self._lock = Lock()
        self._now = 0
        self._calls: dict[Call, None] = {}
        self._zaps: deque[tuple[int, Range]] = deque(maxlen=_ZAPS)

    def enter(self, ranges: tuple[Range, ...]) -> Call:
        """Note that a call begins."""
        with self._lock:
            self._now += 1
            call = Call(self._now, ranges)
            self._calls[call] = None
        return call

    def zap_begins(self) -> int:
        """Note that a zap begins: return its tick."""
        with self._lock:
            self._now += 1
            return self._now

    def zap_ended(self, began: int, start: int, end: int, error: BaseException | None) -> None:
        """Note that the zap which began at a tick has ended, and how."""
        with self._lock:
            if error is None:
                self._zaps.append((began, Range(start, end)))
                return
            failure = Failure(start, end, _told(error))
            for call in self._calls:
                if call.begin < began:
                    call.note(failure)

    def leave(self, call: Call) -> ZapError | None:
        """Note that a call ends: return what it is to be told, or None if all went well."""
        with self._lock:
            del self._calls[call]
            if not call.failures:
                return None
            zapped = [zap for began, zap in self._zaps if began > call.begin]
        missing = without(call.ranges, zapped)
        errors = [
            failure.error
            for failure in call.failures
            if any(failure.start < end and start < failure.end for start, end in missing)
        ]
        return ZapError.of(missing, _once(errors)) if errors else None


def without(ranges: Iterable[Range], zapped: Iterable[Range]) -> tuple[Range, ...]:
    """Return the frames of ``ranges`` that are in none of ``zapped``."""
    missing = list(ranges)
    for low, high in zapped:
        left = []
        for start, end in missing:
            if high <= start or end <= low:
                left.append(Range(start, end))
                continue
            left += [r for r in (Range(start, low), Range(high, end)) if r.frames]
        missing = left
    return tuple(missing)


def _told(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    told = ZapInterruptedError(f"a zap was ended by {error!r}")
    told.__cause__ = error
    return told


def _once(errors: list[Exception]) -> list[Exception]:
    return list({id(error): error for error in errors}.values())
