"""The vCPUs of one phase at work: guest code, the protocol's operations, and zaps.

Every protocol is the generator of ``mtrrzap.protocol`` itself. An operation is performed by its
object's ``effect`` at one instant and then takes the time of a cache line that is here, or at
another vCPU; a blocked one waits, spinlocks in the order of arrival.

What vCPUs do in between, and who of them is held up, is told by ``guests``.
"""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from mtrrzap.gfn import Range
from mtrrzap.kvm.phases import Phase
from mtrrzap.kvm.policy import Lock, Policy, Walk
from mtrrzap.protocol import Operation, Protocol
from mtrrzap.simulator.actor import Actor, Turn
from mtrrzap.simulator.arrivals import gaps, numbers
from mtrrzap.simulator.costs import PAUSE, Costs
from mtrrzap.simulator.footprint import Footprint, Work
from mtrrzap.simulator.guests import Event, Guests
from mtrrzap.simulator.mmu_lock import Walks
from mtrrzap.simulator.result import Served, Spent, Stretch


class _Shared:
    """An object of the protocol: its value, whose cache holds it, and who waits for it."""

    __slots__ = ("blocked", "last", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.last: int | None = None
        self.blocked: deque[tuple[Actor, Operation]] = deque()


class Machine:
    """The VM's shared objects, its lock and its clock; they outlive a phase."""

    def __init__(
        self, policy: Policy, protocol: Protocol, costs: Costs, footprint: Footprint
    ) -> None:
        """Start at cycle 0 with empty entries."""
        self.now = 0.0
        self.served: list[Served] = []
        self.later = 0.0
        self._policy, self._protocol = policy, protocol
        self._costs, self._footprint = costs, footprint
        self._vm = protocol.vm()
        self._shared = {id(o): _Shared(o.initial) for o in protocol.vm.objects()}
        self._changed: list[tuple[_Shared, int]] = []  # and by whom
        self._events: list[tuple[float, int, int, Actor, Any]] = []
        self._number = 0
        self._walks = Walks(costs)
        self._walking: dict[int, tuple[Actor, Work, float, bool]] = {}
        self.guests = Guests(costs, self._guest_at)
        self._zaps = 0
        self._phase = 0
        self._marked = 0.0
        self._piece = 0.0  # cycles of an indivisible part of a walk with mmu_lock held for read

    def rest(self) -> None:
        """Let so much time pass that every vCPU has what it uses, whatever happened before."""
        self.guests.settle()
        for shared in self._shared.values():
            shared.last = None

    def skip(self, phase: Phase, turns: Mapping[int, Sequence[Turn]]) -> None:
        """Note only whether a phase takes from vCPUs what they use."""
        if self._policy.walk is Walk.MARK:
            return
        ranges = {r for mine in turns.values() for _, request in mine for r in request.ranges}
        if any(self._footprint.uses(r, phase.stage) is not None for r in ranges):
            self.guests.miss()

    def run(self, number: int, phase: Phase, actors: list[Actor], pattern: int) -> None:
        """Run a phase to its end; the actors set off one by one."""
        self._phase = number
        self.guests.start(phase, actors, numbers(number, pattern, 1))
        delay = 0.0
        for actor, gap in zip(actors, gaps(self._costs.stagger, number, pattern), strict=False):
            self.guests.set_off(self.now, actor, delay, woken=actor.vcpu in phase.woken)
            delay += gap
        events, walks = self._events, self._walks
        while events or walks.under_way:
            walk = walks.due
            if events and events[0][0] <= walk:
                self.now, _, _, actor, what = heapq.heappop(events)
                self._fire(actor, what)
            else:
                self.now = max(self.now, walk)
                self._walked()

    # -- events

    def _at(self, delay: float, priority: int, actor: Actor, what: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + delay, priority, self._number, actor, what))

    def _guest_at(self, delay: float, actor: Actor, what: Event) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + delay, 2, self._number, actor, what))

    def _fire(self, actor: Actor, what: Any) -> None:
        if type(what) is tuple:  # by far the most frequent
            self._go(actor, what[0])
        elif type(what) is Event:
            if self.guests.happens(self.now, actor, what):
                self._exit(actor)
            if self._walks.under_way:
                self._tell()
        else:
            self._zap_done(actor)

    def _exit(self, actor: Actor) -> None:
        """Begin a request."""
        _, request = actor.turns[0]
        actor.begin, actor.spent = self.now, Spent()
        actor.waited, actor.zaps, actor.stretches = None, 0, []
        actor.steps = self._protocol.call(self._vm, request.ranges)
        self._go(actor, None)

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
        self.guests.back(self.now, actor)
        self._tell()

    def _tell(self) -> None:
        """Say who contends with the walks under way."""
        walks = len(self._walks.under_way)
        if walks:
            self._walks.contend(self.now, *self.guests.contention(self.now, walks))

    # -- the protocol

    def _go(self, actor: Actor, result: Any) -> None:
        """Let a vCPU's protocol go on until time has to pass for somebody else."""
        assert actor.steps is not None
        step, events = actor.steps.send, self._events
        while True:
            try:
                operation = step(result)
            except StopIteration:
                self._leave(actor)
                return
            verb = operation.verb
            if verb == "zap":
                self._zap(actor, Range(*operation.args))
                return
            shared = self._shared[id(operation.target)]
            # Spinlocks are fair: not before those who wait.
            fair = verb != "lock" or not shared.blocked
            done = self._perform(shared, actor.vcpu, operation) if fair else None
            if done is None:
                actor.since = self.now
                shared.blocked.append((actor, operation))
                return
            cost, result = done
            then = self.now + cost
            if shared.blocked or (events and events[0][0] <= then) or self._walks.due <= then:
                self._at(cost, 1, actor, (result,))
                self._wake_all()
                return
            # Nothing else happens until then: there is no need for an event.
            self._changed.clear()
            self.now = then

    def _perform(
        self, shared: "_Shared", vcpu: int, operation: Operation
    ) -> tuple[float, Any] | None:
        """Perform an operation: return the cycles it takes and its result; None if blocked."""
        value = shared.value
        outcomes = operation.target.effect(value, operation, vcpu)
        if not outcomes:
            return None
        after, result = outcomes[0]  # of an allocation: it succeeds
        if operation.verb == "relax":
            return operation.args[0] * PAUSE, result
        here = shared.last == vcpu
        shared.last = vcpu
        if after != value:
            shared.value = after
            self._changed.append((shared, vcpu))
        return (self._costs.visit if here else self._costs.handoff), result

    def _wake_all(self) -> None:
        while self._changed:
            shared, by = self._changed.pop()
            if shared.blocked:
                self._wake(shared, by)

    def _wake(self, shared: "_Shared", by: int) -> None:
        """Let those go on whom the new value of an object allows to."""
        queue, still = shared.blocked, deque[tuple[Actor, Operation]]()
        shared.blocked = deque()
        while queue:
            actor, operation = queue.popleft()
            done = self._perform(shared, actor.vcpu, operation)
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
        still.extend(shared.blocked)
        shared.blocked = still

    # -- zaps

    def _zap(self, actor: Actor, r: Range) -> None:
        guests, stage = self.guests, self.guests.stage
        touched = not self._zaps and guests.free.touched(self.now, r) and guests.running > 0
        work = self._footprint.work(r, self._policy.walk, stage, touched=touched)
        if not self._zaps:
            guests.freeze(self.now)
        self._zaps += 1
        guests.free.zap_begins(self.now, r)
        actor.zaps += 1
        actor.since, actor.walked = self.now, r
        if self._policy.walk is Walk.MARK:
            self._mark(actor, work, touched=touched)
            return
        uses, starts = self._footprint.uses(r, stage), self._footprint.starts(r, stage)
        if self._policy.mmu_lock is Lock.READ:
            self._shared_walk(actor, work)
            if starts is not None:
                guests.clears_start()
            if uses is not None:
                self._lose()
            return
        leaves = self._costs.again if touched and uses is not None else 0.0
        self._walking[actor.vcpu] = (actor, work, leaves, uses is not None)
        self._walks.begin(self.now, actor.vcpu, work.visits, work.levels)
        if starts is not None:
            self._walks.mark(starts, _STARTS)
        if uses is not None:
            self._walks.mark(uses, _USES)
        self._tell()

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
        self._at(begin + hold - self.now, 0, actor, _ZAP_DONE)

    def _lose(self) -> None:
        """Take entries that are used from the vCPUs in the guest."""
        if self.guests.lose(self.now):
            self.later += self._costs.retry * self.guests.running

    def _shared_walk(self, actor: Actor, work: Work) -> None:
        """Walk with mmu_lock held for read, between two short holds for write (patch 12).

        Other walks give way to a writer between two entries; each hold for write waits for one.
        """
        costs = self._costs
        clearing = work.cleared * self._flush_cost() + work.freed * costs.free
        others = self._zaps - 1
        odds, faulting = self.guests.contention(self.now, self._zaps)
        queued = (others + faulting * odds) * costs.turn
        waiting = 2 * queued + (2 * self._piece if others else 0.0)
        if clearing:
            self._piece = clearing / work.cleared
        walking = work.visits * costs.visit
        self._spend(actor, walking=walking, flushing=clearing, yielding=waiting)
        took = waiting + 2 * costs.handoff + walking + clearing
        self._at(took, 0, actor, _ZAP_DONE)

    def _flush_cost(self) -> float:
        return self._costs.flush * self.guests.running

    def _walked(self) -> None:
        """Have a walk end, or come to what it takes from vCPUs."""
        mark = self._walks.passed(self.now)
        if mark is _STARTS:
            self.guests.clears_start()
        elif mark is _USES:
            if self.guests.clears(self.now):
                self._lose()
            self._tell()
        else:
            self._walk_ends()

    def _walk_ends(self) -> None:
        odds, faulting = self.guests.contention(self.now, len(self._walks.under_way))
        walker = self._walks.end(self.now)
        actor, work, leaves, uses = self._walking.pop(walker.vcpu)
        elapsed = self.now - walker.began
        walking = min(elapsed, work.visits * self._costs.visit)
        flushes = odds * leaves + (1 - odds) * min(1.0, leaves)
        flushing = flushes * self._flush_cost()
        self._spend(actor, walking=walking, yielding=elapsed - walking, flushing=flushing)
        self.later += odds * elapsed * faulting
        if uses:
            self._lose()
        self._tell()
        self._at(flushing + self._costs.handoff, 0, actor, _ZAP_DONE)

    def _spend(self, actor: Actor, *, walking: float, yielding: float, flushing: float) -> None:
        spent = Spent(walking=walking, yielding=yielding, flushing=flushing)
        actor.spent = actor.spent.plus(spent)

    def _zap_done(self, actor: Actor) -> None:
        actor.stretches.append(Stretch(actor.since, self.now, actor.walked))
        self._zaps -= 1
        if not self._zaps:
            self._piece = 0.0
            self.guests.thaw(self.now)
        self._go(actor, None)


class _What(Enum):
    ZAP_DONE = "a zap has ended"
    STARTS = "a walk has cleared the frame that a SIPI starts at"
    USES = "a walk comes to what vCPUs use"


_ZAP_DONE, _STARTS, _USES = _What
