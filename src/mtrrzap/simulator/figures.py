"""The figures of a simulation: cycles of each request, divided by what they were spent on."""

from collections.abc import Iterable
from typing import NamedTuple

from mtrrzap.gfn import Range
from mtrrzap.kvm.phases import Stage
from mtrrzap.kvm.replay import Why


class Spent(NamedTuple):
    """Cycles of one request, from the guest's exit to its return. The parts make up the total."""

    waiting: float = 0.0
    """For another vCPU: a lock, a flag, a number."""
    walking: float = 0.0
    """At entries, as if nobody contended."""
    yielding: float = 0.0
    """To those who queue for mmu_lock: what contention adds to walks."""
    flushing: float = 0.0
    """Remote TLB flushes, and page-table pages freed."""
    operating: float = 0.0
    """The protocol's own locks and atomics, passing mmu_lock once."""

    @property
    def total(self) -> float:
        """The cycles of the whole request."""
        return sum(self)

    def plus(self, other: "Spent") -> "Spent":
        """Add part by part."""
        return Spent(*(a + b for a, b in zip(self, other, strict=True)))


_NOTHING = Spent()


class Stretch(NamedTuple):
    """A part of a request: a walk of its own over a range, or a wait for another vCPU."""

    begin: float
    end: float
    range: Range | None
    """What is walked, contention for mmu_lock and the flush included; None for a wait."""
    waited_for: int | None = None


class Served(NamedTuple):
    """One request. Times are cycles since the first vCPU started."""

    event: int
    vcpu: int
    why: Why
    phase: int
    begin: float
    end: float
    zaps: int
    """Walks that this vCPU made, for itself or others."""
    waited_for: int | None
    """A vCPU that it waited for, the last one if several."""
    spent: Spent
    stretches: tuple[Stretch, ...] = ()
    """Its walks and waits, in order; between them it operates."""


class PhaseCost(NamedTuple):
    """A phase: from its first event to the last return."""

    first: int
    stage: Stage
    vcpus: int
    running: int
    begin: float
    end: float
    spent: Spent
    later: float
    """Cycles that its zaps cost running vCPUs outside of requests: page faults, retried until the
    invalidation ends, or exits that recompute types."""


class Result(NamedTuple):
    """A trace under a policy. All figures are modelled."""

    served: tuple[Served, ...]
    phases: tuple[PhaseCost, ...]
    last: float = 0.0
    """Cycles of exits for what is touched again only after the trace's end (``Walk.MARK``)."""

    @property
    def spent(self) -> Spent:
        """Return what all vCPUs spent in requests."""
        return total(s.spent for s in self.served)

    @property
    def cycles(self) -> float:
        """Return the cycles that all vCPUs spent in requests: the published figure."""
        return self.spent.total

    @property
    def later(self) -> float:
        """Return the cycles that the zaps cost outside of requests; not part of ``cycles``."""
        return sum(p.later for p in self.phases) + self.last

    @property
    def longest(self) -> float:
        """Return the longest that one vCPU waited for others in one request."""
        return max((s.spent.waiting + s.spent.yielding for s in self.served), default=0.0)

    @property
    def zaps(self) -> int:
        """Return the walks of all vCPUs."""
        return sum(s.zaps for s in self.served)

    def by_vcpu(self) -> dict[int, Spent]:
        """Return what each vCPU spent."""
        found: dict[int, Spent] = {}
        for s in self.served:
            found[s.vcpu] = found.get(s.vcpu, Spent()).plus(s.spent)
        return found


class Expected(NamedTuple):
    """Means over patterns of arrivals, in cycles. ``Result`` says what they mean."""

    spent: Spent
    longest: float
    later: float
    zaps: float
    """Walks of all vCPUs."""

    @property
    def cycles(self) -> float:
        """Return the cycles that all vCPUs spend in requests."""
        return self.spent.total


def total(parts: Iterable[Spent], start: Spent = _NOTHING) -> Spent:
    """Add up, one after the other."""
    columns = list(zip(*parts, strict=True))
    return Spent(*map(sum, columns, start)) if columns else start
