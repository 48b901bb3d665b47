"""Check a protocol for every property: which searches that takes, and what they say."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mtrrzap.checker import reduction, solo
from mtrrzap.checker.explore import Progress, Search
from mtrrzap.checker.ghost import Ghost, NoGhost
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties import lost_zap, ordering, safety, starvation, work
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.properties.ordering import Ordering
from mtrrzap.checker.result import INTERRUPTED, Exploration, Limits, Schedule, by_ctrl_c
from mtrrzap.checker.sample import sample
from mtrrzap.checker.scenario import Scenario
from mtrrzap.checker.strategies import Strategy
from mtrrzap.errors import UserError

SAFETY = {
    lost_zap.NAME: lost_zap.FLAG,
    safety.DEADLOCK: safety.DEADLOCK_FLAG,
    safety.UNLOCKED: safety.UNLOCKED_FLAG,
    safety.CAPACITY: safety.CAPACITY_FLAG,
}
"""Properties that one search decides together."""

PROPERTIES = (*SAFETY, ordering.NAME, starvation.NAME, work.NAME)

NOT_STARTED = "not started"

HOLDS, VIOLATED, UNKNOWN, MEASURED = "holds", "VIOLATED", "unknown", "measured"

SMALL = 30_000
"""States that plain Python explores before loading the compiled search pays off."""

GRAPH = 1_000_000
"""The most states whose edges are kept: starvation and work need them."""

WATCHED = 3
"""The most vCPUs among which starvation, ordering and work are looked for."""


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
    """A scenario, a schedule in it, and the property that it violates.

    ``loop`` follows the schedule and repeats for ever, and ``starves`` is who never returns.
    """

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
    configuration: str
    states: int
    transitions: int
    seconds: float
    bytes: int = 0
    depth: int = 0
    search_seconds: float = 0.0
    learning_seconds: float = 0.0
    """Of ``seconds``, what the search itself took: no loading of code, no counterexample."""
    engine: str = "python"
    counterexample: Counterexample | None = None
    measured: work.MeasuredWork | None = None
    interrupted: bool = False
    """Whether Ctrl-C stopped it, or kept it from starting."""


Judge = Callable[[Scenario, Options, tuple[str, ...]], list[Verdict]]
"""Decides the properties named, which are among those that it can decide."""


def check(scenario: Scenario, options: Options | None = None) -> list[Verdict]:
    """Return one verdict for each property asked for. After Ctrl-C the rest is not started.

    Raises:
        UserError: if the protocol is invalid, or an option is.
    """
    options = options or Options()
    _refuse_unknown(options)
    stopped = False
    try:
        solo.run(scenario)
    except KeyboardInterrupt:
        stopped = True
    verdicts: list[Verdict] = []
    for names, judge in _JUDGES.items():
        asked = tuple(name for name in names if name in options.properties)
        if not asked:
            continue
        if stopped:
            verdicts += undecided(scenario, asked, NOT_STARTED)
        elif options.strategy and names != tuple(SAFETY):
            unseen = undecided(scenario, asked, "not sampled: it needs breadth-first search (bfs)")
            # The sample says whether the protocol allocates.
            title = verdicts[0].configuration if verdicts else scenario.title()
            verdicts += [replace(each, configuration=title) for each in unseen]
        else:
            found = _uninterrupted(judge, scenario, options, asked)
            stopped = found[-1].interrupted
            narrower = "" if names == tuple(SAFETY) else _narrower(scenario)
            verdicts += [_with_detail(each, narrower) for each in found]
    return verdicts


def _narrower(scenario: Scenario) -> str:
    """Say what ordering, starvation and work leave out of a scenario, and why."""
    parts = []
    if scenario.vcpus > WATCHED:
        parts.append(f"with {WATCHED} of {scenario.vcpus} vCPUs: more take too many states")
    if scenario.memory != "sc":
        parts.append(f"under sc: it is not modelled under {scenario.memory}")
    return "; ".join(parts)


def _with_detail(verdict: Verdict, more: str) -> Verdict:
    """Add to a verdict's detail."""
    detail = "; ".join(filter(None, (verdict.detail, more)))
    return replace(verdict, detail=detail)


def _refuse_unknown(options: Options) -> None:
    for name in options.properties:
        if name not in PROPERTIES:
            mend = f"use one of {', '.join(PROPERTIES)}"
            raise UserError(f"unknown property {name!r}", mend=mend)
    wrong = [name for name in options.properties if name not in SAFETY]
    if options.strategy and wrong and set(options.properties) != set(PROPERTIES):
        raise UserError(
            f"{options.strategy.name} cannot decide {', '.join(wrong)}",
            mend=f"use breadth-first search (bfs), or ask for {', '.join(SAFETY)}",
        )


def undecided(
    scenario: Scenario, names: Iterable[str], why: str = NOT_STARTED, seconds: float = 0.0
) -> list[Verdict]:
    """Return *unknown* for properties that were not decided, because ``why``."""
    stopped = why in (NOT_STARTED, INTERRUPTED)
    return [
        Verdict(name, UNKNOWN, why, scenario.title(), 0, 0, seconds, interrupted=stopped)
        for name in names
    ]


def _uninterrupted(
    judge: Judge, scenario: Scenario, options: Options, names: tuple[str, ...]
) -> list[Verdict]:
    started = time.perf_counter()
    try:
        return judge(scenario, options, names)
    except KeyboardInterrupt:  # between the searches: they keep what they have seen
        return undecided(scenario, names, INTERRUPTED, time.perf_counter() - started)


def search(model: Model, options: Options, wanted: int) -> Exploration:
    """Explore with the engine that suits the size.

    Raises:
        UserError: if the compiled engine is asked for and numba is missing.
    """
    limits = options.limits
    if options.engine != "auto":
        return _searched(model, options, wanted, options.engine)
    small = min(limits.states or SMALL, SMALL)
    first = _plain(model, options, wanted, replace(limits, states=small))
    found = first.run()
    if not first.full or small == limits.states:
        return found
    reduced = options.symmetry and not found.violations and reduction.applies(model)
    try:
        more = _searched(model, options, wanted, "numba" if numba_works() else "python", reduced)
    except KeyboardInterrupt:
        more = Exploration(cut=INTERRUPTED)
    if more.cut is None or more.states >= found.states:
        return more
    found.cut = more.cut  # it was stopped before it had come as far
    return found


def _plain(model: Model, options: Options, wanted: int, limits: Limits) -> Search:
    return Search(
        model,
        symmetry=options.symmetry,
        wanted=wanted if options.first else 0,
        limits=limits,
        progress=options.progress,
    )


def _searched(
    model: Model, options: Options, wanted: int, engine: str, reduced: bool = False
) -> Exploration:
    if engine == "python":
        return _plain(model, options, wanted, options.limits).run()
    if not numba_works():
        raise UserError("the compiled search needs numba", mend="run pip install 'mtrrzap[check]'")
    from mtrrzap.checker.packed_search import explored

    end = wanted if options.first else 0
    how = {"symmetry": options.symmetry, "limits": options.limits, "progress": options.progress}
    try:
        return explored(model, reduced=reduced, wanted=end, **how)
    except OverflowError:  # a state of more than 126 bits: slower, but no less right
        return _plain(model, options, wanted, options.limits).run()


def numba_works() -> bool:
    """Say whether numba can be imported."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def _verdict(
    prop: str, verdict: str, detail: str, scenario: Scenario, found: Any, **more: Any
) -> Verdict:
    """Make a verdict; ``found`` is what a search says of itself."""
    return Verdict(
        prop=prop,
        verdict=verdict,
        detail=detail,
        configuration=scenario.title(),
        states=found.states,
        transitions=found.transitions,
        interrupted=by_ctrl_c(found.cut),
        **more,
    )


def judged(
    found: Exploration,
    scenario: Scenario,
    flags: dict[str, int],
    seconds: float,
    order: tuple[int, ...],
) -> list[Verdict]:
    """Turn what a search found into verdicts: *holds* only if it saw every state.

    ``order[i]`` is the ``scenario``'s vCPU that was number ``i`` in the search.
    """
    verdicts = []
    for name, flag in flags.items():
        violation = found.violations.get(flag)
        verdict, detail, shown = HOLDS, "", None
        if violation:
            verdict, detail = VIOLATED, f"{len(violation.schedule)} steps"
            steps = tuple(each._replace(vcpu=order[each.vcpu]) for each in violation.schedule)
            shown = Counterexample(scenario, name, steps)
        elif found.cut:
            verdict = UNKNOWN
            detail = f"{found.cut}: not seen in {found.states:,} states, to depth {found.depth}"
        effort = {
            "seconds": seconds, "search_seconds": found.seconds, "learning_seconds": found.learning,
            "bytes": found.bytes, "depth": found.depth, "engine": found.engine,
        }  # fmt: skip
        verdicts.append(
            _verdict(name, verdict, detail, scenario, found, counterexample=shown, **effort)
        )
    return verdicts


def _as_met(scenario: Scenario, model: Model) -> Scenario:
    """Return the scenario; no allocation may fail in it if the model never met one."""
    met = any(
        option.operation.verb == "alloc" for options in model.alternatives for option in options
    )
    return replace(scenario, alloc_fails=scenario.alloc_fails and met)


def _explored(
    scenario: Scenario, options: Options, ghost: Callable[[Scenario], Ghost], flags: dict[str, int]
) -> list[Verdict]:
    started = time.perf_counter()
    sorted_, order = scenario.together()
    model = Model(sorted_, ghost(sorted_))
    wanted = sum(flags.values())
    options = replace(options, limits=replace(options.limits, began=started))
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
    seconds = time.perf_counter() - started
    return judged(found, _as_met(scenario, model), flags, seconds, order)


def _safety(scenario: Scenario, options: Options, names: tuple[str, ...]) -> list[Verdict]:
    return _explored(scenario, options, LostZap, {name: SAFETY[name] for name in names})


def _ordering(scenario: Scenario, options: Options, names: tuple[str, ...]) -> list[Verdict]:
    def ghost(sorted_: Scenario) -> Ghost:
        return Ordering(sorted_, sorted_.protocol.vm.objects())

    return _explored(_watched(scenario), options, ghost, dict.fromkeys(names, ordering.FLAG))


def _watched(scenario: Scenario) -> Scenario:
    return replace(scenario, requests=scenario.requests[:WATCHED], memory="sc")


def _graph_limit(options: Options, started: float) -> Limits:
    limits = options.limits
    return replace(limits, states=min(limits.states or GRAPH, GRAPH), began=started)


def _starvation(scenario: Scenario, options: Options, names: tuple[str, ...]) -> list[Verdict]:
    started = time.perf_counter()
    endless = replace(_watched(scenario), forever=True)
    model = Model(endless, NoGhost())
    limit = _graph_limit(options, started)
    answer = starvation.check(model, limit=limit, progress=options.progress)
    endless = _as_met(endless, model)
    verdict, detail, shown = HOLDS, "", None
    if answer.starved:
        stem, loop = answer.starved.stem, answer.starved.loop
        then = f"{len(loop)} for ever" if loop else "nobody can make a step"
        verdict, detail = VIOLATED, f"{len(stem)} steps, then {then}"
        shown = Counterexample(endless, starvation.NAME, stem, loop, answer.starved.vcpu)
    elif answer.cut:
        verdict = UNKNOWN
        detail = f"{answer.cut}: {answer.states:,} states seen, no cycle looked for"
    seconds = time.perf_counter() - started
    more: dict[str, Any] = {"seconds": seconds, "counterexample": shown}
    return [_verdict(name, verdict, detail, endless, answer, **more) for name in names]


def _work(scenario: Scenario, options: Options, names: tuple[str, ...]) -> list[Verdict]:
    started = time.perf_counter()
    quiet = replace(_watched(scenario), alloc_fails=False).together()[0]
    limit = _graph_limit(options, started)
    found = work.measure(quiet, limit=limit, progress=options.progress)
    detail = (
        f"zaps {found.zaps} (needed {found.needed_zaps}), a call sits through "
        f"{'any number' if found.waiting is None else found.waiting}"
    )
    if found.cut:
        detail = f"{found.cut}: {found.states:,} states seen, nothing measured"
    verdict = UNKNOWN if found.cut else MEASURED
    seconds = time.perf_counter() - started
    more: dict[str, Any] = {"seconds": seconds, "measured": None if found.cut else found}
    return [_verdict(name, verdict, detail, quiet, found, **more) for name in names]


_JUDGES: dict[tuple[str, ...], Judge] = {
    tuple(SAFETY): _safety,
    (ordering.NAME,): _ordering,
    (starvation.NAME,): _starvation,
    (work.NAME,): _work,
}
"""What decides which properties, in the order of their table."""


def exit_status(verdicts: Sequence[Verdict]) -> int:
    """Return 0 if everything holds; 1 if something is violated or was not decided; 130: Ctrl-C."""
    if any(verdict.interrupted for verdict in verdicts):
        return 130
    bad = any(verdict.verdict in (VIOLATED, UNKNOWN) for verdict in verdicts)
    return int(bad or not verdicts)
