"""The zaps of one run: how many, and whether a request's frames were among them."""

import threading
from collections.abc import Iterable

from mtrrzap.engine.threads.ledger import without
from mtrrzap.protocol import Range


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

    def ended(self, began: int, start: int, end: int, inside: int) -> None:
        """Note that the zap of ``[start, end)`` that began at a tick is done.

        ``inside`` is the number of its frames that the guest has.
        """
        with self._lock:
            self.count += 1
            self.outside += not inside
            self.frames += inside
            self._ended.append((began, (start, end)))

    def missing(self, since: int, ranges: Iterable[Range]) -> tuple[Range, ...]:
        """Return the frames that no zap covers which began after a tick and has ended."""
        with self._lock:
            zapped = [each for began, each in self._ended if began > since]
        return without(ranges, zapped)
