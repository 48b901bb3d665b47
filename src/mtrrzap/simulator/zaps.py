"""What walks: the zaps in progress, by the policy's kind of walk and lock.

What a zap visits is exact for a given page table (``footprint``); how long it takes depends on who
contends for mmu_lock meanwhile (``mmu_lock``, ``presence``). Times are in cycles.
"""

from enum import Enum
from typing import NamedTuple

from mtrrzap.gfn import Range
from mtrrzap.kvm.policy import Lock, Policy, Walk
from mtrrzap.simulator.actor import Actor
from mtrrzap.simulator.cost_model import Costs
from mtrrzap.simulator.events import ZAP, Loop
from mtrrzap.simulator.figures import Stretch
from mtrrzap.simulator.footprint import Footprint, WalkWork
from mtrrzap.simulator.mmu_lock import Walks
from mtrrzap.simulator.presence import Presence


class _What(Enum):
    DONE = "a zap has ended"
    STARTS = "a walk has cleared the frame that a SIPI starts at"
    USES = "a walk comes to what vCPUs use"


DONE, _STARTS, _USES = _What
"""``DONE`` is the event in the loop that ``Zaps.done`` expects."""


ROUNDING = 1e-3
"""Cycles: a difference of two times is no more exact. They are doubles, in steps of 2**-52 of their
size: 10^-6 cycles after a second at 4 GHz, and a walk's end is computed from several of them."""


class _UnderWay(NamedTuple):
    """A walk with mmu_lock held for write."""

    actor: Actor
    work: WalkWork
    leaves: float
    """Blocks in use that it clears."""
    uses: bool
    """It clears what vCPUs run on."""


class Zaps:
    """The zaps of one VM."""

    def __init__(
        self, policy: Policy, costs: Costs, footprint: Footprint, loop: Loop, presence: Presence
    ) -> None:
        self.later = 0.0
        """Cycles that zaps have cost running vCPUs outside of requests."""
        self._policy, self._costs, self._footprint = policy, costs, footprint
        self._loop, self._presence = loop, presence
        self._walks = Walks(costs, loop)
        self._in_progress = 0
        self._marked = 0.0  # when the last hold of mmu_lock by a zap that marks ends
        self._piece = 0.0  # cycles of an indivisible part of a walk with mmu_lock held for read

    def contend(self) -> None:
        """Take into account who faults now."""
        walks = len(self._walks.under_way)
        if walks:
            self._walks.contend(*self._presence.contention(walks))

    def begin(self, actor: Actor, r: Range) -> None:
        """Begin a zap."""
        presence, policy, stage = self._presence, self._policy, self._presence.stage
        touched = not self._in_progress and presence.touched(r)
        work = self._footprint.work(r, policy.walk, stage, touched=touched)
        presence.zap_begins(r, first=not self._in_progress)
        self._in_progress += 1
        actor.zaps += 1
        actor.since, actor.walked = self._loop.now, r
        if policy.walk is Walk.MARK:
            self._mark(actor, work, touched=touched)
            return
        uses, starts = self._footprint.uses(r, stage), self._footprint.starts(r, stage)
        if policy.mmu_lock is Lock.READ:
            self._shared_walk(actor, work)
            if starts is not None:
                presence.clears_start()
            if uses is not None:
                self._lose()
            return
        leaves = self._costs.again if touched and uses is not None else 0.0
        self._walks.begin(_UnderWay(actor, work, leaves, uses is not None), work)
        if starts is not None:
            self._walks.mark(starts, _STARTS)
        if uses is not None:
            self._walks.mark(uses, _USES)
        self.contend()

    def done(self, actor: Actor) -> None:
        """End a zap; its call goes on."""
        actor.stretches.append(Stretch(actor.since, self._loop.now, actor.walked))
        self._in_progress -= 1
        if not self._in_progress:
            self._piece = 0.0
            self._presence.thaw()

    def moved(self) -> None:
        """Have a walk end, or come to what it takes from vCPUs: the loop's event that moves."""
        mark = self._walks.passed()
        if mark is _STARTS:
            self._presence.clears_start()
        elif mark is _USES:
            if self._presence.clears():
                self._lose()
            self.contend()
        else:
            self._walk_ends()

    def _mark(self, actor: Actor, work: WalkWork, *, touched: bool) -> None:
        """Mark the top-level entries under mmu_lock: too short to yield, and no fault waits.

        Holds follow each other: whoever comes during one waits for its end.
        """
        costs = self._costs
        hold = work.visits * costs.visit + self._flush + costs.handoff
        begin = max(self._loop.now, self._marked)
        self._marked = begin + hold
        if touched:
            self.later += self._footprint.later()
        actor.spends(
            walking=work.visits * costs.visit,
            yielding=begin - self._loop.now,
            flushing=self._flush,
        )
        self._loop.at(begin + hold - self._loop.now, ZAP, actor, DONE)

    def _shared_walk(self, actor: Actor, work: WalkWork) -> None:
        """Walk with mmu_lock held for read, between two short holds for write (patch 12)."""
        costs = self._costs
        # Each cleared entry is flushed on its own; a freed page-table page costs its 512 entries.
        clearing = work.cleared * self._flush + work.freed * costs.free
        # Each of the two holds for write queues behind the other walks and those that fault, a turn
        # each; and for one indivisible piece of another walk: its lock for read is given up only
        # between two entries, and clearing one, with its flush, is the longest such piece.
        others = self._in_progress - 1
        odds, faulting = self._presence.contention(self._in_progress)
        queued = (others + faulting * odds) * costs.turn
        waiting = 2 * queued + (2 * self._piece if others else 0.0)
        if clearing:
            self._piece = clearing / work.cleared
        walking = work.visits * costs.visit
        yielding = waiting if waiting >= ROUNDING else 0.0  # the odds may be 10^-16
        actor.spends(walking=walking, flushing=clearing, yielding=yielding)
        took = waiting + 2 * costs.handoff + walking + clearing
        self._loop.at(took, ZAP, actor, DONE)

    def _walk_ends(self) -> None:
        """End a walk with mmu_lock held for write."""
        now, costs = self._loop.now, self._costs
        odds, faulting = self._presence.contention(len(self._walks.under_way))
        (actor, work, leaves, uses), began = self._walks.end()
        # Walking is what the visits take alone; contention accounts for all that is beyond.
        elapsed = now - began
        walking = min(elapsed, work.visits * costs.visit)
        if elapsed - walking < ROUNDING:
            walking = elapsed
        # A walk that yields flushes what it has cleared each time, so once for each block in use;
        # one that does not flushes once at its end, if it has cleared anything.
        flushes = odds * leaves + (1 - odds) * min(1.0, leaves)
        flushing = flushes * self._flush
        actor.spends(walking=walking, yielding=elapsed - walking, flushing=flushing)
        # Those that fault stand still meanwhile: vCPUs times cycles.
        self.later += odds * elapsed * faulting
        if uses:
            self._lose()
        self.contend()
        self._loop.at(flushing + costs.handoff, ZAP, actor, DONE)

    def _lose(self) -> None:
        """Take entries in use from the vCPUs in the guest: each that runs needs a fault for it."""
        if self._presence.lose():
            self.later += self._costs.retry * self._presence.running

    @property
    def _flush(self) -> float:
        """Cycles of one remote TLB flush: an IPI to every vCPU that runs."""
        return self._costs.flush * self._presence.running
