"""Check a fixed number of vCPUs whose calls may each be for any one of several requests.

Each way to hand out the requests is a world of its own, in which every vCPU asks for the same
request all the time. vCPUs are alike, so only who asks how often matters: with 3 vCPUs and 4
requests there are 20 ways.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from mtrrzap.checker.check import HOLDS, PROPERTIES, UNKNOWN, VIOLATED, Options, Verdict, check
from mtrrzap.checker.properties import work
from mtrrzap.checker.scenario import Request, Scenario
from mtrrzap.errors import UserError
from mtrrzap.protocol import Protocol

MERGED = tuple(name for name in PROPERTIES if name != work.NAME)
"""The properties that one verdict can be given on for all ways together."""


def ways(
    protocol: Protocol,
    kinds: tuple[Request, ...],
    vcpus: int,
    requests: int = 1,
    *,
    alloc_fails: bool = True,
    memory: str = "sc",
) -> Iterator[Scenario]:
    """Yield one scenario for each way in which so many vCPUs can ask."""
    for asked in itertools.combinations_with_replacement(kinds, vcpus):
        yield Scenario(
            protocol,
            tuple((kind,) * requests for kind in asked),
            alloc_fails=alloc_fails and protocol.allocates,
            memory=memory,
        )


def check_any_of(worlds: list[Scenario], options: Options) -> list[Verdict]:
    """Return one verdict for each property: it holds only if it holds in every world.

    Of several violations the one with the shortest schedule is shown.

    Raises:
        UserError: if the protocol is not one, or *work* is asked for by name.
    """
    if work.NAME in options.properties and set(options.properties) != set(PROPERTIES):
        raise UserError(
            f"{work.NAME!r} is not measured for several requests at once",
            mend=f"use {', '.join(MERGED)}",
        )
    asked = tuple(name for name in MERGED if name in options.properties)
    options = replace(options, properties=asked)
    found: dict[str, Verdict] = {}
    for number, world in enumerate(worlds, 1):
        for verdict in check(world, options):
            known = found.get(verdict.prop)
            found[verdict.prop] = _merged(known, verdict) if known else verdict
        if any(each.interrupted for each in found.values()):
            cut = f"interrupted after {number} of {len(worlds)} ways to ask"
            return [_cut(each, cut) for each in found.values()]
    kinds = len({requests for world in worlds for requests in world.requests})
    title = f"{worlds[0].title()}, for any of {kinds} requests"
    return [replace(each, configuration=title) for each in found.values()]


def length(verdict: Verdict) -> int:
    """Return how many steps a verdict's schedule has."""
    shown = verdict.counterexample
    return len(shown.schedule) + len(shown.loop) if shown else 0


_WORST = (HOLDS, UNKNOWN, VIOLATED)


def _merged(one: Verdict, other: Verdict) -> Verdict:
    worse = max(one, other, key=lambda each: (_WORST.index(each.verdict), -length(each)))
    return replace(
        worse,
        states=one.states + other.states,
        transitions=one.transitions + other.transitions,
        seconds=one.seconds + other.seconds,
        interrupted=one.interrupted or other.interrupted,
    )


def _cut(verdict: Verdict, why: str) -> Verdict:
    if verdict.verdict != HOLDS:
        return verdict
    return replace(verdict, verdict=UNKNOWN, detail=why, interrupted=True)
