"""What a run needs of the machine that it runs on, real or modelled."""

from typing import NamedTuple, Protocol

from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.live.plan import Item

WARM_UPS = 2
"""How often each vCPU touches its pages before the first event: before and after the probe."""


class Counters(NamedTuple):
    """Counted since the machine was made, but entries are those that there are now."""

    faults: int
    """Page faults that made an entry."""
    entries: int
    """Leaves of the second-stage page table."""
    large: int
    """Of them, those of 2 MiB."""
    flushes: int
    """Requests for a remote TLB flush."""


class Target(Protocol):
    """A machine. A vCPU's thread calls what takes a vCPU's number; any thread calls the rest."""

    @property
    def frames(self) -> int:
        """Guest memory in frames, from gfn 0."""

    @property
    def touched(self) -> int:
        """Pages that each vCPU touches at a time."""

    def enter(self, vcpu: int) -> None:
        """Take the calling thread for a vCPU's."""

    def warm(self, vcpu: int) -> None:
        """Touch the vCPU's pages."""

    def perform(self, vcpu: int, item: Item, state: Vcpu) -> None:
        """Touch the vCPU's pages, then let the guest do its part of an event, up to the exit.

        ``state`` is that before the event. Raises ``StoppedError`` after a ``kick``.
        """

    def finish(self, vcpu: int) -> None:
        """Touch the vCPU's pages a last time and halt."""

    def leave(self, vcpu: int) -> None:
        """Let the calling thread go."""

    def zap(self, start: int, end: int) -> None:
        """Zap the frames ``[start, end)``; the caller sees to it that nobody else zaps."""

    def counters(self) -> Counters:
        """Return the counters as they are now."""

    def lost(self) -> list[str]:
        """Return what guest memory does not hold that it should; all vCPUs have finished."""

    def kick(self) -> None:
        """Make every vCPU stop."""

    def close(self) -> None:
        """Give everything back; all threads have left."""
