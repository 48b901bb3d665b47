"""The time in which page faults succeed: no invalidation is in progress."""

import math

from mtrrzap.kvm.ranges import Range


class FreeTime:
    """How long faults could be served since each zap, and since the last flush."""

    def __init__(self) -> None:
        """Nothing was ever zapped."""
        self.flushes = 0
        self._base = 0.0  # free time until `_since`
        self._since: float | None = 0.0  # None: a zap is in progress
        self._zapped: dict[Range, float] = {}
        self._flushed_at = -math.inf

    def settle(self) -> None:
        """Count as if the last flush were long ago."""
        self._flushed_at = -math.inf
        self._zapped.clear()

    def _free(self, now: float) -> float:
        return self._base if self._since is None else self._base + now - self._since

    def zap_begins(self, now: float, r: Range) -> None:
        """Note a zap of a range."""
        self._base = self._free(now)
        self._since = None
        self._zapped[r] = self._base

    def zaps_end(self, now: float) -> None:
        """Note that none is in progress any more."""
        self._since = now

    def flushed(self, now: float) -> None:
        """Note that the running vCPUs have lost entries that they use."""
        self.flushes += 1
        self._flushed_at = self._free(now)

    def touched(self, now: float, r: Range) -> bool:
        """Tell if faults could install entries in a range since a zap of all of it."""
        free = self._free(now)
        return not any(
            z.start <= r.start and r.end <= z.end and at >= free for z, at in self._zapped.items()
        )

    def odds(self, now: float, vcpus: int, refault: float) -> float:
        """Return the chance that one of the vCPUs is still faulting its entries in again.

        Each takes an exponentially distributed time for it, ``refault`` cycles in the mean.
        """
        if not vcpus:
            return 0.0
        gone = math.exp(-(self._free(now) - self._flushed_at) / refault)
        return 1.0 - (1.0 - gone) ** vcpus if gone < 1.0 else 1.0
