"""The zaps of one run: how many, and whether a request's frames were among them."""

import threading
from collections.abc import Iterable
from typing import NamedTuple

from mtrrzap.protocol import Range
from mtrrzap.threads.ledger import without


class Since(NamedTuple):
    """When a request was made."""

    tick: int
    ended: int
    """Zaps that had ended by then."""


class Zaps:
    """Counts zaps, and remembers which began when. Any thread may call."""

    def __init__(self) -> None:
        """Start with none."""
        self.count = self.outside = self.frames = 0
        self._lock = threading.Lock()
        self._clock = 0
        self._ended: list[tuple[int, Range]] = []

    def now(self) -> int:
        """Return a new tick of a logical clock."""
        with self._lock:
            self._clock += 1
            return self._clock

    def asked(self) -> Since:
        """Return when a request is made."""
        with self._lock:
            self._clock += 1
            return Since(self._clock, len(self._ended))

    def ended(self, began: int, start: int, end: int, inside: int) -> None:
        """Note that the zap of ``[start, end)`` that began at a tick is done.

        ``inside`` is the number of its frames that the guest has.
        """
        with self._lock:
            self.count += 1
            self.outside += not inside
            self.frames += inside
            self._ended.append((began, Range(start, end)))

    def missing(self, since: Since, ranges: Iterable[Range]) -> tuple[Range, ...]:
        """Return the frames that no zap covers which began after a request and has ended."""
        with self._lock:
            later = self._ended[since.ended :]
        zapped = [each for began, each in later if began > since.tick]
        return without(ranges, zapped)
