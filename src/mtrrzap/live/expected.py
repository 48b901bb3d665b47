"""What a real guest is expected to do, without KVM: the run's target is a modelled page table.

Threads and protocols are as real as on KVM.
"""

import threading
from time import sleep

from mtrrzap.gfn import Range
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.tdp import Memslot, PageTable
from mtrrzap.kvm.tdp.levels import frames
from mtrrzap.kvm.vcpu import Vcpu, power_on
from mtrrzap.live import guest
from mtrrzap.live.plan import Item, Plan
from mtrrzap.live.tally import Counters
from mtrrzap.live.target import Target
from mtrrzap.live.turns import RunStoppedError

_VISIT = 1e-7
"""Seconds in which a walk looks at one entry: about what a real zap takes (docs/live.md)."""
_AT_A_TIME = 32
"""Pages touched before a zap may come in between."""


class Modelled(Target):
    """``kvm.tdp``'s page table under one lock; vCPUs touch the pages that a real guest would."""

    def __init__(
        self, plan: Plan, policy: Policy, host: Host, memory: int, touch: int, *, huge: bool = False
    ) -> None:
        """Take the policy's kind of walk and memory types. Raises ``UserError``."""
        sizes = [len(table) for table in plan.tables()]
        self._where = guest.layout(memory, sizes, touch)
        self.frames = memory // guest.PAGE
        self._walk, self._mask = policy.walk, MtMask(policy, host)
        slot = Memslot(0, self.frames, 2 if huge else 1)
        self._table = PageTable([slot], host_maxphyaddr=host.maxphyaddr)
        self._lock = threading.Lock()
        self._stopped = False
        self._faults = self._flushes = self._zaps = 0
        self._seen = [-1] * self._where.vcpus
        self._start = power_on(plan.trace.header.maxphyaddr)
        self._last = [self._start] * self._where.vcpus

    def warm(self, vcpu: int) -> None:
        """Touch the vCPU's pages in its state after RESET. Raises ``RunStoppedError``."""
        self._touch(vcpu, self._start)

    def perform(self, vcpu: int, item: Item, state: Vcpu) -> None:
        """Touch the vCPU's pages, if it runs for the event. Raises ``RunStoppedError``."""
        if item.entry is not None:
            self._touch(vcpu, state)
        self._last[vcpu] = state

    def finish(self, vcpu: int) -> None:
        """Touch the vCPU's pages a last time. Raises ``RunStoppedError``."""
        self._touch(vcpu, self._last[vcpu])

    def _touch(self, vcpu: int, state: Vcpu) -> None:
        with self._lock:
            zaps = self._zaps
            if self._seen[vcpu] == zaps:
                return  # all is there: nothing has been zapped since the last time
        pages = self._where.pages(vcpu)
        for first in range(0, len(pages), _AT_A_TIME):
            with self._lock:
                if self._stopped:
                    raise RunStoppedError
                for address in pages[first : first + _AT_A_TIME]:
                    leaf = self._table.fault(address // guest.PAGE, state, self._mask)
                    self._faults += leaf is not None
        self._seen[vcpu] = zaps

    def zap(self, start: int, end: int) -> None:
        """Zap the frames ``[start, end)`` as the policy walks, and take as long as a walk does.

        Without that nobody would ever ask while another one zaps.
        """
        with self._lock:
            self._zaps += 1
            done = self._table.zap(Range(start, end), self._walk)
            self._flushes += done.flushes
            sleep(done.visits * _VISIT)

    def counters(self) -> Counters:
        """Return what has been counted."""
        with self._lock:
            leaves = list(self._table.leaves())
        counts = [((run.end - run.start) // frames(run.level), run.level) for run in leaves]
        large = sum(count for count, level in counts if level > 1)
        return Counters(self._faults, sum(count for count, _ in counts), large, self._flushes)

    def kick(self) -> None:
        """Make every vCPU stop at its next touch."""
        self._stopped = True
