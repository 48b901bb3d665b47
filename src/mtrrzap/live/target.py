"""What a run needs from the machine that it runs on, real or modelled."""

from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.live.plan import Item
from mtrrzap.live.tally import Counters

WARM_UPS = 2
"""How often each vCPU touches its pages before the first event: before and after the probe."""


class Target:
    """A machine. A vCPU's thread calls what takes a vCPU's number; any thread calls the rest.

    What is not abstract does nothing, which is right for a machine without memory of its own.
    """

    frames: int
    """Guest memory in frames, from gfn 0."""

    def enter(self, vcpu: int) -> None:
        """Make the calling thread a vCPU's."""

    def leave(self, vcpu: int) -> None:
        """Let the calling thread go."""

    def warm(self, vcpu: int) -> None:
        """Touch the vCPU's pages. Raises ``RunStoppedError`` after a ``kick``."""
        raise NotImplementedError

    def perform(self, vcpu: int, item: Item, state: Vcpu) -> None:
        """Touch the vCPU's pages, then let the guest do its part of an event, up to the exit.

        ``state`` is that before the event. Raises ``RunStoppedError`` after a ``kick``.
        """
        raise NotImplementedError

    def finish(self, vcpu: int) -> None:
        """Touch the pages a last time and halt. Raises ``RunStoppedError`` after a ``kick``."""
        raise NotImplementedError

    def zap(self, start: int, end: int) -> None:
        """Zap the frames ``[start, end)``; callers must not zap at the same time."""
        raise NotImplementedError

    def counters(self) -> Counters:
        """Return the counters as they are now."""
        raise NotImplementedError

    def lost(self) -> list[str]:
        """Return what is wrong with guest memory; all vCPUs have finished."""
        return []

    def kick(self) -> None:
        """Make every vCPU stop."""
        raise NotImplementedError

    def close(self) -> None:
        """Give everything back; all threads have left."""
