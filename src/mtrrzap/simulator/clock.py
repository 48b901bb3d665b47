"""The time in which page faults succeed: no invalidation is in progress."""

from mtrrzap.gfn import Range


class FreeTime:
    """How long faults could be served so far, and since each zap."""

    def __init__(self) -> None:
        """Nothing was ever zapped."""
        self.frozen = False
        """A zap is in progress."""
        self._base = 0.0  # free time until `_since`
        self._since = 0.0
        self._zapped: dict[Range, float] = {}

    def settle(self) -> None:
        """Count as if the last zap were long ago."""
        self._zapped.clear()

    def at(self, now: float) -> float:
        """Return the free time so far; it stands still while a zap is in progress."""
        return self._base if self.frozen else self._base + now - self._since

    def zap_begins(self, now: float, r: Range) -> None:
        """Note a zap of a range."""
        self._base = self.at(now)
        self.frozen = True
        self._zapped[r] = self._base

    def zaps_end(self, now: float) -> None:
        """Note that none is in progress any more."""
        self.frozen = False
        self._since = now

    def touched(self, now: float, r: Range) -> bool:
        """Tell if faults could install entries in a range since a zap of all of it."""
        free = self.at(now)
        return not any(
            z.start <= r.start and r.end <= z.end and at >= free for z, at in self._zapped.items()
        )
