"""One boot under one policy: the loop, the calls, the zaps and who is present, put together.

Each of them knows only what is before it: ``events``, then ``presence`` and ``calls``, then
``zaps``. Only here does an event of one lead to another's: a vCPU that arrives begins a call, a
call that comes to a zap begins a walk, a zap that ends lets its call go on, a call that returns
lets the vCPU back into the guest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.kvm.phases import Phase
from mtrrzap.kvm.policy import Policy, Walk
from mtrrzap.protocol import PROTOCOLS
from mtrrzap.simulator.actor import Actor, Turn
from mtrrzap.simulator.arrivals import gaps, numbers
from mtrrzap.simulator.calls import RETURNED, Calls, Next
from mtrrzap.simulator.cost_model import Costs
from mtrrzap.simulator.events import Loop
from mtrrzap.simulator.figures import PhaseCost, Served, total
from mtrrzap.simulator.footprint import Footprint
from mtrrzap.simulator.presence import InGuest, Presence
from mtrrzap.simulator.zaps import Zaps


class Simulation:
    """The VM; its clock, objects and entries outlive a phase."""

    def __init__(self, policy: Policy, costs: Costs, footprint: Footprint) -> None:
        """Start at cycle 0 with empty entries. Raises ``UserError`` for an unknown protocol."""
        if policy.protocol not in PROTOCOLS:
            known = f"use {', '.join(PROTOCOLS)}"
            raise UserError(f"no protocol {policy.protocol!r}", place=policy.name, mend=known)
        self._policy, self._costs, self._footprint = policy, costs, footprint
        self._loop = Loop()
        self._presence = Presence(costs, self._loop)
        self._calls = Calls(PROTOCOLS[policy.protocol], costs, self._loop)
        self._zaps = Zaps(policy, costs, footprint, self._loop, self._presence)
        self._phase = 0

    @property
    def served(self) -> Sequence[Served]:
        """The requests of the last phase, in the order of their returns."""
        return self._calls.served

    def rest(self) -> None:
        """Let so much time pass that every vCPU has what it uses, whatever happened before."""
        self._presence.settle()
        self._calls.rest()

    def skip(self, phase: Phase, turns: Mapping[int, Sequence[Turn]]) -> None:
        """Note only whether a phase takes from vCPUs what they use."""
        if self._policy.walk is Walk.MARK:
            return
        ranges = {r for mine in turns.values() for _, request in mine for r in request.ranges}
        if any(self._footprint.uses(r, phase.stage) is not None for r in ranges):
            self._presence.miss()

    def run(
        self, number: int, phase: Phase, actors: list[Actor], pattern: int, exits: int = 0
    ) -> PhaseCost:
        """Run a phase to its end; the actors set off one by one.

        ``exits`` are those after the last request, one after the other.
        """
        loop, presence = self._loop, self._presence
        begin, later = loop.now, self._zaps.later
        self._phase, self._calls.served = number, []
        presence.start(phase, actors, numbers(number, pattern, 1))
        delay = 0.0
        for actor, gap in zip(actors, gaps(self._costs.stagger, number, pattern), strict=False):
            presence.set_off(actor, delay, woken=actor.vcpu in phase.woken)
            delay += gap
        loop.run(self._fire, self._zaps.moved)
        loop.now += exits * self._costs.leave
        spent = total(each.spent for each in self.served)
        return PhaseCost(
            *(phase.first, phase.stage, len(phase.events), phase.running),
            *(begin, loop.now, spent, self._zaps.later - later),
        )

    def _fire(self, actor: Actor, what: Any) -> None:
        if type(what) is tuple:  # the result of an operation: by far the most frequent
            reached = self._calls.go(actor, what[0])
            if reached is not None:
                self._follow(actor, reached)
        elif type(what) is InGuest:
            if self._presence.happens(actor, what):
                self._follow(actor, self._calls.begin(actor))
            self._zaps.contend()
        else:
            self._zaps.done(actor)
            self._follow(actor, self._calls.go(actor, None))

    def _follow(self, actor: Actor, reached: Next) -> None:
        """Do what a call has come to."""
        if reached is RETURNED:
            self._calls.end(actor, self._phase)
            self._presence.back(actor)
            self._zaps.contend()
        elif reached is not None:
            self._zaps.begin(actor, reached)
