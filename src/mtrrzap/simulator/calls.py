"""What runs a protocol: the calls under way, their operations, and who is blocked by whom.

A call is the generator of ``mtrrzap.protocol`` itself, from the guest's exit to its return. Each
operation takes effect at one instant (its object's ``effect``), and its time passes after that. A
blocked operation waits until the object's value allows it; spinlocks serve in the order of arrival.

Nothing here knows of page tables: a call that comes to a zap is handed to the caller.
"""

from collections import deque
from typing import Any

from mtrrzap.gfn import Range
from mtrrzap.protocol import Operation, Protocol
from mtrrzap.protocol.rehearsal import rehearse
from mtrrzap.simulator.actor import Actor
from mtrrzap.simulator.cost_model import PAUSE, Costs
from mtrrzap.simulator.events import OPERATION, Loop
from mtrrzap.simulator.figures import Served, Spent


class _Shared:
    """An object of the protocol: its value, whose cache holds it, and who waits for it."""

    __slots__ = ("blocked", "last", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.last: int | None = None
        self.blocked: deque[tuple[Actor, Operation]] = deque()


RETURNED = Range(0, 0)
Next = Range | None
"""Where a call stopped: at a zap, at its end (``RETURNED``), or until an event of the loop."""


class Calls:
    """All calls of one VM, and the objects that they share."""

    def __init__(self, protocol: Protocol, costs: Costs, loop: Loop) -> None:
        rehearse(protocol)
        self.served: list[Served] = []
        """The requests that have returned; whoever has read them sets a new list."""
        self._protocol, self._costs, self._loop = protocol, costs, loop
        self._vm = protocol.vm()
        self._shared = {id(o): _Shared(o.initial) for o in protocol.vm.objects()}
        self._changed: list[tuple[_Shared, int]] = []  # and by whom

    def rest(self) -> None:
        """Let so much time pass that no object is in anybody's cache."""
        for shared in self._shared.values():
            shared.last = None

    def begin(self, actor: Actor) -> Next:
        """Begin an actor's next request: its vCPU has left the guest."""
        _, request = actor.turns[0]
        actor.begin, actor.spent = self._loop.now, Spent()
        actor.waited, actor.zaps, actor.stretches = None, 0, []
        actor.steps = self._protocol.call(self._vm, request.ranges)
        return self.go(actor, None)

    def end(self, actor: Actor, phase: int) -> None:
        """Note a request that has returned."""
        _, request = actor.turns.popleft()
        now, spent = self._loop.now, actor.spent
        # Waits, walks, yields and flushes are added up as they happen; the rest of the request is
        # the protocol's own operations and the passing of mmu_lock.
        spent = spent._replace(operating=max(0.0, now - actor.begin - spent.total))
        self.served.append(
            Served(
                *(request.event, request.vcpu, request.why, phase, actor.begin, now),
                *(actor.zaps, actor.waited, spent, tuple(actor.stretches)),
            )
        )

    def go(self, actor: Actor, result: Any) -> Next:
        """Continue a call until it zaps, returns, or time has to pass for somebody else."""
        assert actor.steps is not None
        step, loop = actor.steps.send, self._loop
        heap = loop.heap
        while True:
            try:
                operation = step(result)
            except StopIteration:
                return RETURNED
            verb = operation.verb
            if verb == "zap":
                return Range(*operation.args)
            shared = self._shared[id(operation.target)]
            # Spinlocks are fair: nobody overtakes those who wait.
            fair = verb != "lock" or not shared.blocked
            done = self._perform(shared, actor.vcpu, operation) if fair else None
            if done is None:
                actor.since = loop.now
                shared.blocked.append((actor, operation))
                return None
            cost, result = done
            then = loop.now + cost
            if shared.blocked or (heap and heap[0][0] <= then) or loop.moving <= then:
                loop.at(cost, OPERATION, actor, (result,))
                self._wake_all()
                return None
            # Nothing else happens until then, so the clock can move without an event.
            self._changed.clear()
            loop.now = then

    def _perform(
        self, shared: _Shared, vcpu: int, operation: Operation
    ) -> tuple[float, Any] | None:
        """Perform an operation: return the cycles it takes and its result; None if blocked.

        An operation is one access to its object's cache line: ``handoff`` cycles if another vCPU
        had the line last, ``visit`` (a line in the own cache, as for an entry) if this one did.
        """
        value = shared.value
        outcomes = operation.target.effect(value, operation, vcpu)
        if not outcomes:
            return None
        after, result = outcomes[0]  # allocations succeed
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

    def _wake(self, shared: _Shared, by: int) -> None:
        """Let those continue whom the object's new value allows to."""
        queue, still = shared.blocked, deque[tuple[Actor, Operation]]()
        shared.blocked = deque()
        while queue:
            actor, operation = queue.popleft()
            done = self._perform(shared, actor.vcpu, operation)
            if done is not None:
                self._loop.at(done[0], OPERATION, actor, (done[1],))
                self._wake_all()
                actor.waits_no_more(self._loop.now, by)
                continue
            still.append((actor, operation))
            if operation.verb == "lock":
                break  # the lock is taken: those behind cannot get it either
        still.extend(queue)
        still.extend(shared.blocked)
        shared.blocked = still
