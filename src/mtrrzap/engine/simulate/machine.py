"""The vCPUs of one phase at work: guest code, the protocol's operations, and zaps.

Every protocol is the generator of ``mtrrzap.protocol`` itself. An operation is performed by its
object's ``effect`` at one instant and then takes the time of a cache line that is here, or at
another vCPU; a blocked one waits, spinlocks in the order of arrival.

A vCPU in the guest goes on only with its entries in place. After a flush it faults them in again
(``retry`` in the mean), and none succeeds while an invalidation is in progress (v6.1: whatever the
frame).
"""

import heapq
import math
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

from mtrrzap.engine.simulate.clock import FreeTime
from mtrrzap.engine.simulate.costs import Costs
from mtrrzap.engine.simulate.footprint import Footprint, Work
from mtrrzap.engine.simulate.mmu_lock import Walks
from mtrrzap.engine.simulate.phases import Stage
from mtrrzap.engine.simulate.result import Served, Spent, Stretch
from mtrrzap.kvm.policy import Lock, Policy, Walk
from mtrrzap.kvm.ranges import Range
from mtrrzap.kvm.replay import Request
from mtrrzap.protocol import Operation, Protocol, Steps

PAUSE = 140.0
"""Cycles of one PAUSE, ``cpu_relax()``, since Skylake (Intel's optimization manual)."""

Turn = tuple[float, Request]
"""Guest time before a request, and the request."""


class Actor:
    """A vCPU with requests to make in this phase."""

    __slots__ = (
        *("begin", "epoch", "since", "spent", "steps", "stretches", "turns"),
        *("vcpu", "waited", "walked", "zaps"),
    )

    def __init__(self, vcpu: int, turns: list[Turn]) -> None:
        """Take the requests that it is to make, in order."""
        self.vcpu = vcpu
        self.turns = deque(turns)
        self.epoch = 0
        self.steps: Steps | None = None
        self.begin = self.since = 0.0
        self.spent = Spent()
        self.waited: int | None = None
        self.zaps = 0
        self.walked = Range(0, 0)
        self.stretches: list[Stretch] = []


class Machine:
    """The VM's shared objects, its lock and its clock; they outlive a phase."""

    def __init__(
        self, policy: Policy, protocol: Protocol, costs: Costs, footprint: Footprint
    ) -> None:
        """Start at cycle 0 with empty entries."""
        self.now = 0.0
        self.served: list[Served] = []
        self.later = 0.0
        self.running = 0
        self.stage = Stage.NOT_RUN
        self._policy, self._protocol = policy, protocol
        self._costs, self._footprint = costs, footprint
        self._vm = protocol.vm()
        self._values: dict[int, Any] = {id(o): o.initial for o in protocol.vm.objects()}
        self._last: dict[int, int] = {}
        self._blocked: dict[int, deque[tuple[Actor, Operation]]] = {}
        self._woken: list[tuple[int, int]] = []  # object, and who changed its value
        self._events: list[tuple[float, int, int, Actor, Any]] = []
        self._number = 0
        self._walks = Walks(costs)
        self._walking: dict[int, tuple[Actor, Work, float, bool]] = {}
        self._free = FreeTime()
        self._parked: list[tuple[Actor, float]] = []
        self._zaps = 0
        self._inside = 0
        self._phase = 0
        self._ran: dict[int, int] = {}
        self._guests: dict[int, Actor] = {}
        self._lost = -math.inf
        self._frozen = -math.inf
        self._marked = 0.0
        self._warm = 0
        self._piece = 0.0  # cycles of an indivisible part of a walk with mmu_lock held for read

    def rest(self) -> None:
        """Let so much time pass that every vCPU has what it uses."""
        self._free.settle()

    def run(self, phase: int, actors: list[Actor], gaps: Iterable[float]) -> None:
        """Run a phase to its end; the actors set off one by one, with gaps in cycles between."""
        self._phase = phase
        delay = 0.0
        for actor, gap in zip(actors, gaps, strict=False):
            actor.epoch = self._ran.get(actor.vcpu, -1)
            self._guests[actor.vcpu] = actor
            self._guest(actor, delay)
            delay += gap
        events, walks = self._events, self._walks.under_way
        while events or walks:
            walk = self._walks.next_end() if walks else math.inf
            if events and events[0][0] <= walk:
                self.now, _, _, actor, what = heapq.heappop(events)
                self._fire(actor, what)
            else:
                self.now = max(self.now, walk)
                self._walk_ends()

    # -- the guest

    def _at(self, delay: float, priority: int, actor: Actor, what: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + delay, priority, self._number, actor, what))

    def _guest(self, actor: Actor, delay: float) -> None:
        if actor.turns:
            self._at(delay + actor.turns[0][0], 2, actor, _ARRIVE)

    def _fire(self, actor: Actor, what: Any) -> None:
        if type(what) is tuple:  # by far the most frequent
            self._go(actor, what[0])
        elif what is _ARRIVE:
            self._arrive(actor)
        elif isinstance(what, _Attempt):
            self._fault_ends(actor, what.left)
        else:
            self._zap_done(actor)

    def _arrive(self, actor: Actor) -> None:
        """Reach the next request, unless entries are gone: then fault them in first."""
        # Whoever had all entries when the zap began may be out of the guest already.
        leaving = actor.epoch >= self._warm and self.now - self._lost < self._costs.leave
        if actor.epoch != self._free.flushes and not leaving:
            if self._zaps:
                # Its way to the request stopped when it found entries gone.
                self._parked.append((actor, self.now - max(self._lost, self._frozen)))
                return
            actor.epoch = self._free.flushes
            self._at(self._costs.retry, 2, actor, _ARRIVE)
            return
        del self._guests[actor.vcpu]
        _, request = actor.turns[0]
        actor.begin, actor.spent = self.now, Spent()
        actor.waited, actor.zaps, actor.stretches = None, 0, []
        self._inside += 1
        self._tell()
        actor.steps = self._protocol.call(self._vm, tuple((r.start, r.end) for r in request.ranges))
        self._go(actor, None)

    def _fault_ends(self, actor: Actor, left: float) -> None:
        """Go on, unless an invalidation is in progress again: then fault on."""
        if self._zaps:
            self._parked.append((actor, left))
            return
        actor.epoch = self._free.flushes
        self._at(left, 2, actor, _ARRIVE)

    def _leave(self, actor: Actor) -> None:
        _, request = actor.turns.popleft()
        spent = actor.spent
        spent = spent._replace(operating=max(0.0, self.now - actor.begin - spent.total))
        self.served.append(
            Served(
                *(request.event, request.vcpu, request.why, self._phase, actor.begin, self.now),
                *(actor.zaps, actor.waited, spent, tuple(actor.stretches)),
            )
        )
        self._inside -= 1
        self._tell()
        actor.epoch = -1
        self._ran[actor.vcpu] = self._free.flushes
        if actor.turns:
            self._guests[actor.vcpu] = actor
            self._guest(actor, 0.0)

    def _tell(self) -> None:
        self._walks.faulting(self.now, self._faulting)

    @property
    def _faulting(self) -> int:
        """Count the vCPUs that run outside of requests."""
        return max(0, self.running - self._inside)

    # -- the protocol

    def _go(self, actor: Actor, result: Any) -> None:
        """Let a vCPU's protocol go on until time has to pass for somebody else."""
        assert actor.steps is not None
        while True:
            try:
                operation = actor.steps.send(result)
            except StopIteration:
                self._leave(actor)
                return
            if operation.verb == "zap":
                self._zap(actor, Range(*operation.args))
                return
            done = self._perform(actor, operation)
            if done is None:
                actor.since = self.now
                self._blocked.setdefault(id(operation.target), deque()).append((actor, operation))
                return
            cost, result = done
            blocked = self._blocked.get(id(operation.target))
            if blocked or not self._idle_until(self.now + cost):
                self._at(cost, 1, actor, (result,))
                self._wake_all()
                return
            self._woken.clear()
            self.now += cost

    def _idle_until(self, time: float) -> bool:
        """Tell if nothing else happens up to a time: then there is no need for an event."""
        if self._events and self._events[0][0] <= time:
            return False
        return not self._walks.under_way or self._walks.next_end() > time

    def _perform(
        self, actor: Actor, operation: Operation, by: int | None = None
    ) -> tuple[float, Any] | None:
        """Perform an operation: return the cycles it takes and its result; None if blocked."""
        key = id(operation.target)
        queue = self._blocked.get(key)
        if queue and by is None and operation.verb == "lock":
            return None  # spinlocks are fair: not before those who wait
        value = self._values[key]
        outcomes = operation.target.effect(value, operation, actor.vcpu)
        if not outcomes:
            return None
        after, result = outcomes[0]  # of an allocation: it succeeds
        if operation.verb == "relax":
            return operation.args[0] * PAUSE, result
        here = self._last.get(key) == actor.vcpu
        self._last[key] = actor.vcpu
        if after != value:
            self._values[key] = after
            self._woken.append((key, actor.vcpu))
        return (self._costs.visit if here else self._costs.handoff), result

    def _wake_all(self) -> None:
        while self._woken:
            self._wake(*self._woken.pop())

    def _wake(self, key: Hashable, by: int) -> None:
        """Let those go on whom the new value of an object allows to."""
        assert isinstance(key, int)
        queue = self._blocked.get(key)
        if not queue:
            return
        still: deque[tuple[Actor, Operation]] = deque()
        self._blocked[key] = deque()
        while queue:
            actor, operation = queue.popleft()
            done = self._perform(actor, operation, by)
            if done is not None:
                self._at(done[0], 1, actor, (done[1],))
                self._wake_all()
                waited = self.now - actor.since
                actor.spent = actor.spent._replace(waiting=actor.spent.waiting + waited)
                actor.waited = by
                actor.stretches.append(Stretch(actor.since, self.now, None, by))
                continue
            still.append((actor, operation))
            if operation.verb == "lock":
                break  # whoever queues behind it cannot get it either
        still.extend(queue)
        still.extend(self._blocked[key])
        self._blocked[key] = still

    # -- zaps

    def _zap(self, actor: Actor, r: Range) -> None:
        touched = not self._zaps and self._free.touched(self.now, r) and self.running > 0
        work = self._footprint.work(r, self._policy.walk, self.stage, touched=touched)
        odds = self._odds()
        others = self._zaps
        if not others:
            self._frozen, self._warm = self.now, self._free.flushes
        self._zaps += 1
        self._free.zap_begins(self.now, r)
        actor.zaps += 1
        actor.since, actor.walked = self.now, r
        uses = self._footprint.uses(r)
        if self._policy.walk is Walk.MARK:
            self._mark(actor, work, touched=touched)
            return
        if self._policy.mmu_lock is Lock.WRITE:
            leaves = self._costs.again if touched and uses else 0.0
            if uses and (others or odds > 0.5):
                self._lose()
            self._walking[actor.vcpu] = (actor, work, leaves, uses)
            self._walks.begin(self.now, actor.vcpu, work.visits, work.levels, odds)
            return
        if uses:
            self._lose()
        self._shared_walk(actor, work, others, odds)

    def _mark(self, actor: Actor, work: Work, *, touched: bool) -> None:
        """Mark the top-level entries under mmu_lock: too short to yield, and no fault waits."""
        hold = work.visits * self._costs.visit + self._flush_cost() + self._costs.handoff
        begin = max(self.now, self._marked)
        self._marked = begin + hold
        if touched:
            self.later += self._footprint.later()
        self._spend(
            actor,
            walking=work.visits * self._costs.visit,
            yielding=begin - self.now,
            flushing=self._flush_cost(),
        )
        self._at(begin + hold - self.now, 0, actor, _ZapDone())

    def _odds(self) -> float:
        """Return the chance that some vCPU faults as a zap begins."""
        epoch = self._free.flushes
        if any(actor.epoch != epoch for actor in self._guests.values()):
            return 1.0
        return self._free.odds(self.now, self._faulting, self._costs.retry)

    def _lose(self) -> None:
        """Take entries that are used from the vCPUs in the guest."""
        if self._lost < self._frozen:  # once while zaps follow each other
            self.later += self._costs.retry * self.running
        self._free.flushed(self.now)
        self._lost = self.now

    def _shared_walk(self, actor: Actor, work: Work, others: int, odds: float) -> None:
        """Walk with mmu_lock held for read, between two short holds for write (patch 12).

        Other walks give way to a writer between two entries; each hold for write waits for one.
        """
        costs = self._costs
        clearing = work.cleared * self._flush_cost() + work.freed * costs.free
        queued = others + self._faulting * (1.0 if others else odds)
        waiting = 2 * costs.handoff * queued + (2 * self._piece if others else 0.0)
        if clearing:
            self._piece = clearing / work.cleared
        walking = work.visits * costs.visit
        self._spend(actor, walking=walking, flushing=clearing, yielding=waiting)
        took = waiting + 2 * costs.handoff + walking + clearing
        self._at(took, 0, actor, _ZapDone())

    def _flush_cost(self) -> float:
        return self._costs.flush * self.running

    def _walk_ends(self) -> None:
        walker, odds = self._walks.end(self.now)
        actor, work, leaves, uses = self._walking.pop(walker.vcpu)
        elapsed = self.now - walker.began
        walking = min(elapsed, work.visits * self._costs.visit)
        flushes = odds * leaves + (1 - odds) * min(1.0, leaves)
        flushing = flushes * self._flush_cost()
        self._spend(actor, walking=walking, yielding=elapsed - walking, flushing=flushing)
        self.later += odds * elapsed * self._faulting
        if uses:
            self._lose()
        self._at(flushing + self._costs.handoff, 0, actor, _ZapDone())

    def _spend(self, actor: Actor, *, walking: float, yielding: float, flushing: float) -> None:
        spent = Spent(walking=walking, yielding=yielding, flushing=flushing)
        actor.spent = actor.spent.plus(spent)

    def _zap_done(self, actor: Actor) -> None:
        actor.stretches.append(Stretch(actor.since, self.now, actor.walked))
        self._zaps -= 1
        if not self._zaps:
            self._free.zaps_end(self.now)
            self._piece = 0.0
            parked, self._parked = self._parked, []
            # Each is somewhere between two attempts of its own.
            apart = self._costs.retry / (len(parked) + 1)
            for number, (each, left) in enumerate(parked, 1):
                self._at(apart * number, 2, each, _Attempt(left))
        self._go(actor, None)


class _Arrive:
    """An actor reaches its next request."""


class _ZapDone:
    """A zap has ended."""


class _Attempt(NamedTuple):
    """A page fault is attempted, with no invalidation in progress so far."""

    left: float
    """Cycles of guest code from there to the next request."""


_ARRIVE = _Arrive()
