"""What runs tell: counts and times of each, and medians."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any, NamedTuple


class Probe(NamedTuple):
    """What one zap of all memory did before the first event, while no vCPU ran."""

    before: int
    """Entries that were there."""
    large: int
    """Of them, those of 2 MiB."""
    after: int
    """Entries right after it."""
    refaults: int
    """Faults when each vCPU touched its pages again."""

    @property
    def works(self) -> bool:
        """Tell if zaps zap here, as far as the counters show."""
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
    """Of them, those that hold no frame of the test guest."""
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
    """In requests, all vCPUs together: what is left without the walks of the vCPU's own zaps."""
    longest_wait: float
    """The longest such part of one request."""
    probe: Probe
    lost: tuple[str, ...] = field(default=())
    """What guest memory did not hold at the end: nothing, or the run is worthless."""


def middle(runs: Sequence[Run], name: str) -> Any:
    """Return the median of one of the numbers over repetitions, the lower one of two."""
    return median_low(getattr(run, name) for run in runs)
