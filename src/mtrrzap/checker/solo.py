"""One call, alone in the VM: it must work before interleavings are worth exploring."""

from typing import Any

from mtrrzap.checker.automaton import Automaton, Place
from mtrrzap.checker.operations import outcomes
from mtrrzap.checker.scenario import Request, Scenario
from mtrrzap.errors import UserError

STEPS = 1000
"""Operations for each range of a call alone in the VM, after which it is stopped."""


def run(scenario: Scenario) -> None:
    """Run each different request alone, twice, and see that it ends.

    A call that is blocked alone is left to the search, which reports it as a deadlock. So is one
    that comes back to where it was and finds all as it was: it polls, and waits for another vCPU.

    Raises:
        UserError: if a call does not end, or does not do the same twice.
    """
    for request in dict.fromkeys(each for vcpu in scenario.requests for each in vcpu):
        vm = scenario.protocol.vm()
        first = Automaton(scenario.protocol, vm)
        _run(first, request)
        _run(Automaton(scenario.protocol, vm), request)


def _run(automaton: Automaton, request: Request) -> None:
    values: dict[int, Any] = {id(known): known.initial for known in automaton.objects}
    place = automaton.start(request)
    seen: set[object] = set()
    for _ in range(STEPS * max(1, len(request))):
        if place.operation is None:
            return
        here = (place.key, tuple(values.values()))
        if here in seen:
            return
        seen.add(here)
        target = place.operation.target
        found = outcomes(values[id(target)], place.operation, 0, place.where)
        if not found:
            return
        values[id(target)], result = found[0]
        place = automaton.after(request, place, result)
    _endless(place)


def _endless(place: Place) -> None:
    raise UserError(
        f"stopped after {len(place.results):,} operations of a call alone in the VM, "
        f"at {place.operation}",
        place=place.where,
        mend=f"end it within {STEPS:,} for each range: shorten its loop, or check that it ends",
    )
