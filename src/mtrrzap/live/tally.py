"""What is counted and measured in a run: zaps as they happen, the probe, and one run's figures."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any, NamedTuple

from mtrrzap.protocol import Range
from mtrrzap.threads.ledger import without


class Since(NamedTuple):
    """When a request was made."""

    tick: int
    ended: int
    """Zaps that had ended by then."""


class ZapLog:
    """Counts zaps, and remembers which began when. Any thread may call."""

    def __init__(self) -> None:
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
        """Return the frames that no zap covers that began after a request and has ended."""
        with self._lock:
            later = self._ended[since.ended :]
        zapped = [each for began, each in later if began > since.tick]
        return without(ranges, zapped)


class Counters(NamedTuple):
    """Counts since the machine was made; entries are those that exist now."""

    faults: int
    """Page faults that made an entry."""
    entries: int
    """Leaves of the second-stage page table."""
    large: int
    """Those of 2 MiB among them."""
    flushes: int
    """Requests for a remote TLB flush."""


class ZapProbe(NamedTuple):
    """What one zap of all memory did before the first event, while no vCPU ran."""

    before: int
    """Entries that were there."""
    large: int
    """Those of 2 MiB among them."""
    after: int
    """Entries right after it."""
    refaults: int
    """Faults when each vCPU touched its pages again."""

    @property
    def works(self) -> bool:
        """Tell if zaps work here, as far as the counters show."""
        return self.after < self.before and self.refaults > 0


@dataclass(frozen=True, slots=True)
class Run:
    """One repetition. Times are seconds, everything else is counted."""

    requests: int
    ranges: int
    """Of all requests, after clamping to the host's MAXPHYADDR."""
    zaps: int
    """Zaps that the protocol made, one for each range that it handed to the MMU."""
    outside: int
    """Of them, those that contain no frame of the test guest."""
    frames: int
    """Frames of the test guest in the zaps; one zapped twice counts twice."""
    unzapped: int
    """Requests that returned although no zap that began after them, or several, had covered all of
    their frames: lost zaps, as ``check`` calls them."""
    refaults: int
    """Page faults that made an entry, from the first event on."""
    flushes: int
    wall: float
    """From the first event to the halt of the last vCPU."""
    waited: float
    """In requests, all vCPUs together, without the walks of the vCPU's own zaps."""
    longest_wait: float
    """The longest such part of one request."""
    probe: ZapProbe
    lost: tuple[str, ...] = field(default=())
    """What was wrong with guest memory at the end; the run is worthless if anything was."""


def middle(runs: Sequence[Run], name: str) -> Any:
    """Return the median of one of the numbers over repetitions, the lower one of two."""
    return median_low(getattr(run, name) for run in runs)
