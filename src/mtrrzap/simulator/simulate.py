"""Run a trace under a policy, phase after phase."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mtrrzap.kvm.phases import Phase, Phases, phases
from mtrrzap.kvm.policy import Policy, Walk
from mtrrzap.kvm.replay import Events, Host, Request
from mtrrzap.simulator.actor import Actor, Turn
from mtrrzap.simulator.arrivals import PATTERNS
from mtrrzap.simulator.cost_model import Costs
from mtrrzap.simulator.figures import Expected, PhaseCost, Result, Served, Spent, total
from mtrrzap.simulator.footprint import Footprint
from mtrrzap.simulator.simulation import Simulation


@dataclass(frozen=True, slots=True)
class Guest:
    """What a simulation needs of a trace, for any policy."""

    phases: Phases
    footprint: Footprint
    costs: Costs

    @classmethod
    def of(cls, trace: Events, host: Host, page_level: int, costs: Costs) -> "Guest":
        """Prepare a trace; ``page_level`` of the host's pages: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB."""
        return cls(phases(trace), Footprint(trace.header, host, page_level, costs), costs)


Run = Iterator[tuple[PhaseCost, Sequence[Served]]]
"""Phase after phase, what it cost and its requests in the order of their returns."""


def expected(guest: Guest, policy: Policy, requests: Iterable[Request], first: int = 0) -> Expected:
    """Return what a policy's requests cost in the mean of ``PATTERNS`` patterns of arrivals.

    ``first`` is the number of the first pattern: other ones show how much the choice matters.
    """
    plan = list(_plan(guest, requests))
    # Patterns do not matter where vCPUs ask one by one: once is enough.
    alone = _sums(_run(guest, policy, plan, 0, waves=False))
    patterns = range(first, first + PATTERNS)
    found = [_sums(_run(guest, policy, plan, pattern, alone=False)) for pattern in patterns]
    share = 1.0 / PATTERNS
    return Expected(
        alone.spent.plus(Spent(*(part * share for part in total(r.spent for r in found)))),
        max(alone.longest, share * sum(max(alone.longest, r.longest) for r in found)),
        sum(alone.later)
        + share * sum(later for r in found for later in r.later)
        + _last(guest, policy, plan),
        alone.zaps + share * sum(r.zaps for r in found),
    )


def simulate(guest: Guest, policy: Policy, requests: Iterable[Request], pattern: int = 0) -> Result:
    """Run a policy's requests, those of ``kvm.replay``, under one pattern of arrivals."""
    plan = list(_plan(guest, requests))
    costs: list[PhaseCost] = []
    served: list[Served] = []
    for cost, returned in _run(guest, policy, plan, pattern):
        costs.append(cost)
        served += returned
    return Result(tuple(served), tuple(costs), _last(guest, policy, plan))


def by_phase(guest: Guest, policy: Policy, requests: Iterable[Request]) -> Run:
    """Do what ``simulate`` does, and yield phase after phase what it keeps for all."""
    return _run(guest, policy, _plan(guest, requests), 0)


class _Sums(NamedTuple):
    """Of one run."""

    spent: Spent
    longest: float
    later: Sequence[float]
    """Of each phase."""
    zaps: int


def _sums(run: Run) -> _Sums:
    spent, longest, zaps = Spent(), 0.0, 0
    later = array("d")
    for cost, served in run:
        spent = total((s.spent for s in served), spent)
        longest = max(longest, *(s.spent.waiting + s.spent.yielding for s in served))
        zaps += sum(s.zaps for s in served)
        later.append(cost.later)
    return _Sums(spent, longest, later, zaps)


class _Asking(NamedTuple):
    """A phase in which somebody asks, for any pattern."""

    number: int
    phase: Phase
    turns: dict[int, list[Turn]]
    """vCPUs that ask, in the order of their first event."""
    exits: int
    """Exits after the last request."""
    rested: bool
    """Time passes before it."""


def _plan(guest: Guest, requests: Iterable[Request]) -> Iterator[_Asking]:
    by_event: dict[int, dict[int, Request]] = {}  # phase -> event -> request
    for request in requests:
        number = guest.phases.number_of(request.event)
        if number is not None:
            by_event.setdefault(number, {})[request.event] = request
    before: Phase | None = None
    for number in sorted(by_event):
        phase = guest.phases[number]
        if number - 1 not in by_event:
            before = None  # nobody asks in the phase before
        turns, exits = _turns(phase, by_event[number], guest.costs)
        rested = before is None or not _follows(before, phase)
        yield _Asking(number, phase, turns, exits, rested)
        before = phase


def _run(
    guest: Guest,
    policy: Policy,
    plan: Iterable[_Asking],
    pattern: int,
    *,
    alone: bool = True,
    waves: bool = True,
) -> Run:
    """Run phases in which vCPUs ask one by one (*alone*), or at once (*waves*), or all."""
    boot = Simulation(policy, guest.costs, guest.footprint)
    for number, phase, turns, exits, rested in plan:
        if not (waves if phase.concurrent else alone):
            boot.skip(phase, turns)
            continue
        actors = [Actor(vcpu, mine, sleeps=vcpu in phase.sleepers) for vcpu, mine in turns.items()]
        if rested:
            boot.rest()
        yield boot.run(number, phase, actors, pattern, exits), boot.served


def _last(guest: Guest, policy: Policy, plan: Sequence[_Asking]) -> float:
    """Return the cycles of what is touched again only after the trace's end."""
    if policy.walk is not Walk.MARK or not plan:
        return 0.0
    return guest.footprint.later(plan[-1].phase.stage)


def _follows(before: Phase, phase: Phase) -> bool:
    """Tell if a phase follows at once: the guest passes its lock from vCPU to vCPU."""
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
                # A request counts from its exit: its own way out is half of one more exit.
                turns.append(((exits + 0.5) * costs.leave, request))
                exits = 0
        if turns:
            found[vcpu] = turns
            last = exits
    return found, last
