"""Put a protocol to every property: which searches that takes, and what they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mtrrzap.engine.check import solo
from mtrrzap.engine.check.explore import Progress, Search
from mtrrzap.engine.check.ghost import Ghost, NoGhost
from mtrrzap.engine.check.model import Model
from mtrrzap.engine.check.properties import (
    capacity,
    deadlock,
    lost_zap,
    ordering,
    starvation,
    unlocked,
    work,
)
from mtrrzap.engine.check.properties.lost_zap import LostZap
from mtrrzap.engine.check.properties.ordering import Ordering
from mtrrzap.engine.check.result import Exploration, Limits, Schedule
from mtrrzap.engine.check.sample import sample
from mtrrzap.engine.check.scenario import Scenario
from mtrrzap.engine.check.strategies import Strategy
from mtrrzap.errors import UserError

SAFETY = {
    lost_zap.NAME: lost_zap.FLAG,
    deadlock.NAME: deadlock.FLAG,
    unlocked.NAME: unlocked.FLAG,
    capacity.NAME: capacity.FLAG,
}
"""Properties that one search decides together."""

PROPERTIES = (*SAFETY, ordering.NAME, starvation.NAME, work.NAME)

HOLDS, VIOLATED, UNKNOWN, MEASURED = "holds", "VIOLATED", "unknown", "measured"

SMALL = 30_000
"""States that plain Python explores before the compiled search is worth loading."""

GRAPH = 1_000_000
"""States of which all edges are kept, at most: starvation and work need them."""

WATCHED = 3
"""vCPUs beyond which starvation, ordering and work are looked for among this many."""


@dataclass(frozen=True)
class Options:
    """How to search."""

    properties: tuple[str, ...] = PROPERTIES
    symmetry: bool = True
    engine: str = "auto"
    limits: Limits = field(default_factory=Limits)
    strategy: Strategy | None = None
    runs: int = 1000
    progress: Progress | None = None
    first: bool = False
    """Stop as soon as every property asked for is violated."""


@dataclass(frozen=True)
class Counterexample:
    """A world, a schedule in it, and what the schedule shows. ``loop`` then repeats for ever."""

    scenario: Scenario
    prop: str
    schedule: Schedule
    loop: Schedule = ()
    starves: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What one search says about one property."""

    prop: str
    verdict: str
    detail: str
    world: str
    states: int
    transitions: int
    seconds: float
    bytes: int = 0
    depth: int = 0
    search_seconds: float = 0.0
    """Of ``seconds``, what the search itself took: no loading of code, no counterexample."""
    engine: str = "python"
    counterexample: Counterexample | None = None
    measured: work.Work | None = None


def check(scenario: Scenario, options: Options | None = None) -> list[Verdict]:
    """Return one verdict for each property asked for.

    Raises:
        UserError: if the protocol is not one, or an option makes no sense.
    """
    options = options or Options()
    for name in options.properties:
        if name not in PROPERTIES:
            mend = f"there are {', '.join(PROPERTIES)}"
            raise UserError(f"no property is called {name!r}", mend=mend)
    solo.run(scenario)
    verdicts: list[Verdict] = []
    safety = {name: flag for name, flag in SAFETY.items() if name in options.properties}
    if safety:
        verdicts += _safety(scenario, options, safety)
    rest: dict[str, Callable[[Scenario, Options], list[Verdict]]] = {
        ordering.NAME: _ordering,
        starvation.NAME: _starvation,
        work.NAME: _work,
    }
    for name, judge in rest.items():
        if name in options.properties and options.strategy is None:
            verdicts += judge(_watched(scenario), options)
    return verdicts


def search(model: Model, options: Options, wanted: int) -> Exploration:
    """Explore with the engine that suits the size.

    Raises:
        UserError: if the compiled engine is asked for and numba is missing.
    """
    arguments = {
        "symmetry": options.symmetry,
        "wanted": wanted if options.first else 0,
        "progress": options.progress,
    }
    limits = options.limits
    small = min(limits.states or SMALL, SMALL)
    if options.engine == "auto":
        first = Search(model, limits=replace(limits, states=small), **arguments)  # type: ignore[arg-type]
        found = first.run()
        if not first.full or small == limits.states:
            return found
    if options.engine == "python" or (options.engine == "auto" and not numba_works()):
        return Search(model, limits=limits, **arguments).run()  # type: ignore[arg-type]
    if not numba_works():
        raise UserError("the compiled search needs numba", mend="pip install 'mtrrzap[check]'")
    from mtrrzap.engine.check.fast import FastSearch

    try:
        return FastSearch(model, limits=limits, **arguments).run()  # type: ignore[arg-type]
    except OverflowError:  # a state of more than 126 bits: slower, but no less right
        return Search(model, limits=limits, **arguments).run()  # type: ignore[arg-type]


def numba_works() -> bool:
    """Say whether numba can be imported."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def judged(
    found: Exploration, scenario: Scenario, flags: dict[str, int], seconds: float
) -> list[Verdict]:
    """Turn what a search found into verdicts: *holds* only if it saw every state."""
    verdicts = []
    for name, flag in flags.items():
        violation = found.violations.get(flag)
        verdict, detail = HOLDS, ""
        shown = None
        if violation:
            verdict, detail = VIOLATED, f"{len(violation.schedule)} steps"
            shown = Counterexample(scenario, name, violation.schedule)
        elif found.cut:
            verdict = UNKNOWN
            detail = f"{found.cut}: not seen in {found.states:,} states, to depth {found.depth}"
        verdicts.append(
            Verdict(
                prop=name,
                verdict=verdict,
                detail=detail,
                world=scenario.title(),
                states=found.states,
                transitions=found.transitions,
                seconds=seconds,
                bytes=found.bytes,
                depth=found.depth,
                search_seconds=found.seconds,
                engine=found.engine,
                counterexample=shown,
            )
        )
    return verdicts


def _explored(
    scenario: Scenario, options: Options, ghost: Ghost, flags: dict[str, int]
) -> list[Verdict]:
    started = time.perf_counter()
    model = Model(scenario, ghost)
    wanted = sum(flags.values())
    if options.strategy:
        found = sample(
            model,
            options.strategy,
            options.runs,
            wanted=wanted if options.first else 0,
            limits=options.limits,
            progress=options.progress,
        )
    else:
        found = search(model, options, wanted)
    return judged(found, scenario, flags, time.perf_counter() - started)


def _safety(scenario: Scenario, options: Options, flags: dict[str, int]) -> list[Verdict]:
    return _explored(scenario, options, LostZap(scenario), flags)


def _ordering(scenario: Scenario, options: Options) -> list[Verdict]:
    ghost = Ordering(scenario, scenario.protocol.vm.objects())
    return _explored(scenario, options, ghost, {ordering.NAME: ordering.FLAG})


def _watched(scenario: Scenario) -> Scenario:
    return replace(scenario, requests=scenario.requests[:WATCHED], memory="sc")


def _graph_limit(options: Options) -> int:
    return min(options.limits.states or GRAPH, GRAPH)


def _starvation(scenario: Scenario, options: Options) -> list[Verdict]:
    started = time.perf_counter()
    endless = replace(scenario, forever=True)
    model = Model(endless, NoGhost())
    answer = starvation.check(model, limit=_graph_limit(options), progress=options.progress)
    verdict, detail, shown = HOLDS, "", None
    if answer.starved:
        stem, loop = answer.starved.stem, answer.starved.loop
        then = f"{len(loop)} for ever" if loop else "nobody can make a step"
        verdict, detail = VIOLATED, f"{len(stem)} steps, then {then}"
        shown = Counterexample(endless, starvation.NAME, stem, loop, answer.starved.vcpu)
    elif answer.cut:
        verdict, detail = UNKNOWN, f"{answer.cut}: no cycle looked for"
    return [
        Verdict(
            prop=starvation.NAME,
            verdict=verdict,
            detail=detail,
            world=endless.title(),
            states=answer.states,
            transitions=answer.transitions,
            seconds=time.perf_counter() - started,
            counterexample=shown,
        )
    ]


def _work(scenario: Scenario, options: Options) -> list[Verdict]:
    started = time.perf_counter()
    quiet = replace(scenario, alloc_fails=False)
    found = work.measure(quiet, limit=_graph_limit(options), progress=options.progress)
    detail = found.cut or (
        f"zaps {found.zaps} (needed {found.needed_zaps}), a call sits through "
        f"{'any number' if found.waiting is None else found.waiting}"
    )
    return [
        Verdict(
            prop=work.NAME,
            verdict=UNKNOWN if found.cut else MEASURED,
            detail=detail,
            world=quiet.title(),
            states=found.states,
            transitions=found.transitions,
            seconds=time.perf_counter() - started,
            measured=None if found.cut else found,
        )
    ]


def exit_status(verdicts: Sequence[Verdict]) -> int:
    """Return 0 if everything holds; 1 if something is violated, or was not decided."""
    return int(any(verdict.verdict in (VIOLATED, UNKNOWN) for verdict in verdicts))
