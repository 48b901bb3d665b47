"""Which zaps failed, whose frames that leaves unzapped, and what those callers get.

A protocol knows nothing of exceptions: for it, a zap that raised has ended. The ledger decides what
such a zap leaves behind, by a logical clock that ticks whenever a call or a zap begins: a caller's
frames are zapped if zaps that began after the call, and did not raise, cover them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import NamedTuple, Self

from mtrrzap.protocol import Range
from mtrrzap.protocol.operation import show_range

_ZAPS = 4096
"""Successful zaps remembered. If more end during one call, that call may get a failure that an
older zap has made good: too much is reported then, never too little."""
_FAILURES = 64
"""Failures remembered for one call, likewise."""


class ZapInterruptedError(Exception):
    """A zap was ended by something that is not an ``Exception``, like Ctrl-C: its cause.

    The thread in which that happened gets the cause itself; the others whose frames the zap covered
    get this.
    """


class ZapError(ExceptionGroup[Exception]):
    """Some frames of a call were not zapped, because zaps raised: the group of their exceptions.

    It is a group even for a single one, because timing decides how many zaps a call depends on.
    """

    ranges: tuple[Range, ...]
    """The frames of the call that no successful zap covered."""

    def __new__(
        cls, message: str, errors: Sequence[Exception], ranges: tuple[Range, ...] = ()
    ) -> Self:
        """Make one; pickles and tools that copy exceptions know the first two arguments only."""
        self = super().__new__(cls, message, errors)
        self.ranges = ranges
        return self

    @classmethod
    def of(cls, ranges: tuple[Range, ...], errors: Sequence[Exception]) -> Self:
        """Make one for the frames that were not zapped."""
        frames = ", ".join(show_range(*each) for each in ranges[:3])
        more = f" and {len(ranges) - 3} more" if len(ranges) > 3 else ""
        return cls(f"not zapped: {frames}{more}", errors, ranges)

    def derive(self, errors: Sequence[Exception]) -> ZapError:  # type: ignore[override]
        """Return a part of the group, as ``except*`` does."""
        return ZapError(self.message, errors, self.ranges)


class Failure(NamedTuple):
    """A zap that raised."""

    start: int
    end: int
    error: Exception


class CallInProgress:
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
    """The calls in progress, the latest zaps, and the clock."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._now = 0
        self._calls: dict[CallInProgress, None] = {}
        self._zaps: deque[tuple[int, Range]] = deque(maxlen=_ZAPS)

    def enter(self, ranges: tuple[Range, ...]) -> CallInProgress:
        """Note that a call begins."""
        with self._lock:
            self._now += 1
            call = CallInProgress(self._now, ranges)
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

    def leave(self, call: CallInProgress) -> ZapError | None:
        """Note that a call ends: return its error, or None if all its frames were zapped."""
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
