"""Run a trace under a policy: phase after phase, each on the same machine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mtrrzap.engine.simulate.arrivals import PATTERNS, gaps
from mtrrzap.engine.simulate.costs import Costs
from mtrrzap.engine.simulate.footprint import Footprint
from mtrrzap.engine.simulate.machine import Actor, Machine, Turn
from mtrrzap.engine.simulate.phases import Phase, phases
from mtrrzap.engine.simulate.result import Expected, PhaseCost, Result, Spent, total
from mtrrzap.kvm.policy import Policy, Walk
from mtrrzap.kvm.replay import Events, Host, Request
from mtrrzap.protocol import PROTOCOLS


@dataclass(frozen=True, slots=True)
class Guest:
    """What the simulation needs to know of a trace, whatever the policy."""

    phases: tuple[Phase, ...]
    footprint: Footprint
    costs: Costs

    @classmethod
    def of(cls, trace: Events, host: Host, page_level: int, costs: Costs) -> "Guest":
        """Look a trace up once; ``page_level``: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB."""
        footprint = Footprint(trace.header, host, page_level, costs)
        return cls(tuple(phases(trace)), footprint, costs)


def expected(guest: Guest, policy: Policy, requests: Iterable[Request]) -> Expected:
    """Return what a policy's requests cost in the mean, whatever the pattern of arrivals."""
    plan = _plan(guest, requests)
    found = [_run(guest, policy, plan, pattern) for pattern in range(PATTERNS)]
    return Expected(
        Spent(*(part / PATTERNS for part in total(r.spent for r in found))),
        *(sum(column) / PATTERNS for column in zip(*map(_others, found), strict=True)),
    )


def _others(found: Result) -> tuple[float, float, float]:
    return found.longest, found.later, found.zaps


def simulate(guest: Guest, policy: Policy, requests: Iterable[Request], pattern: int = 0) -> Result:
    """Run a policy's requests, those of ``kvm.replay``, under one pattern of arrivals."""
    return _run(guest, policy, _plan(guest, requests), pattern)


class _Part(NamedTuple):
    """What happens in one phase, under any pattern."""

    phase: Phase
    turns: dict[int, list[Turn]]
    """vCPUs that ask, in the order of their first event."""
    exits: int
    """Exits after the last request."""


def _plan(guest: Guest, requests: Iterable[Request]) -> list[_Part]:
    by_event = {request.event: request for request in requests}
    return [_Part(phase, *_turns(phase, by_event, guest.costs)) for phase in guest.phases]


def _run(guest: Guest, policy: Policy, plan: Sequence[_Part], pattern: int) -> Result:
    machine = Machine(policy, PROTOCOLS[policy.protocol], guest.costs, guest.footprint)
    done: list[PhaseCost] = []
    before: Phase | None = None
    for number, (phase, turns, exits) in enumerate(plan):
        actors = [Actor(vcpu, mine) for vcpu, mine in turns.items()]
        if not actors:
            before = None
            continue
        if before is None or not _follows(before, phase):
            machine.rest()
        before = phase
        machine.stage, machine.running = phase.stage, phase.running
        begin, served, later = machine.now, len(machine.served), machine.later
        machine.run(number, actors, gaps(guest.costs.stagger, number, pattern))
        machine.now += exits * guest.costs.leave
        spent = total(s.spent for s in machine.served[served:])
        done.append(
            PhaseCost(
                *(phase.first, phase.stage, len(phase.events), phase.running),
                *(begin, machine.now, spent, machine.later - later),
            )
        )
    marks = policy.walk is Walk.MARK and bool(machine.served)
    last = guest.footprint.later(machine.stage) if marks else 0.0
    return Result(tuple(machine.served), tuple(done), last)


def _follows(before: Phase, phase: Phase) -> bool:
    """Tell if a phase comes right after another: the guest passes its lock from vCPU to vCPU."""
    if before.concurrent or phase.concurrent:
        return False
    return before.stage is phase.stage and abs(before.running - phase.running) <= 1


def _turns(
    phase: Phase, by_event: dict[int, Request], costs: Costs
) -> tuple[dict[int, list[Turn]], int]:
    found: dict[int, list[Turn]] = {}
    last = 0
    for vcpu, positions in phase.events.items():
        turns: list[Turn] = []
        exits = 0
        for position in positions:
            request = by_event.get(position)
            if request is None:
                exits += 1
            else:
                turns.append((exits * costs.leave, request))
                exits = 0
        if turns:
            found[vcpu] = turns
            last = exits
    return found, last
