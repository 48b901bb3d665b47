"""Schedule files: write one, and run one again step by step.

The file is text. A header of ``key: value`` lines names the scenario. Then every step is a line:
the vCPU, and its operation as :class:`protocol.Operation` renders it. A step that the protocol does
not make (any more) is an error that names the line.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mtrrzap.checker.check import SAFETY, Counterexample
from mtrrzap.checker.forever import ForeverStepper
from mtrrzap.checker.ghost import Ghost, NoGhost
from mtrrzap.checker.model import Model, State
from mtrrzap.checker.properties import ordering, safety, starvation
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.properties.ordering import Ordering
from mtrrzap.checker.result import Choice, Schedule
from mtrrzap.checker.scenario import (
    MAX_REQUESTS,
    MEMORY_MODELS,
    Request,
    Scenario,
)
from mtrrzap.checker.schedule_run import line_of, run_schedule
from mtrrzap.checker.stepper import Stepper
from mtrrzap.errors import UserError
from mtrrzap.protocol import Protocol, Range
from mtrrzap.protocol.operation import is_range

MAGIC = "# mtrrzap schedule 1"
LOOP = "for ever:"
SIZE = 1 << 20
"""Bytes of a schedule file, at most: real ones have some thousand."""
MAX_RANGES = 1000


def model_for(scenario: Scenario, prop: str) -> tuple[Model, Stepper]:
    """Return the model in which a property's counterexample runs, without symmetry."""
    ghost: Ghost = LostZap(scenario)
    if prop == ordering.NAME:
        ghost = Ordering(scenario, scenario.protocol.vm.objects())
    elif prop == starvation.NAME:
        ghost = NoGhost()
    model = Model(scenario, ghost)
    return model, ForeverStepper(model) if scenario.forever else Stepper(model, symmetry=False)


def written(shown: Counterexample, protocol: str) -> str:
    """Render a counterexample as a schedule file; ``protocol`` is how the user named it."""
    scenario = shown.scenario
    model, stepper = model_for(scenario, shown.prop)
    lines = run_schedule(model, shown.schedule + shown.loop, stepper=stepper).lines
    head = [
        MAGIC,
        f"protocol: {protocol}",
        f"shows: {shown.prop}",
        f"alloc-fails: {_yes(scenario.alloc_fails)}",
        f"memory: {scenario.memory}",
        f"forever: {_yes(scenario.forever)}",
    ]
    if shown.starves is not None:
        head.append(f"starves: {shown.starves}")
    head += [f"vcpu {i}: {_requests(each)}" for i, each in enumerate(scenario.requests)]
    steps = [f"{line.vcpu} {line.text}" for line in lines]
    stem = len(shown.schedule)
    if shown.loop:
        steps.insert(stem, LOOP)
    return "\n".join([*head, "", *steps]) + "\n"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _requests(requests: tuple[Request, ...]) -> str:
    return "; ".join(
        " ".join(f"{start:#x}-{end:#x}" for start, end in request) for request in requests
    )


@dataclass(frozen=True)
class _Step:
    number: int
    vcpu: int
    text: str


@dataclass(frozen=True)
class _Read:
    """What a file says, judged as far as that goes without its protocol."""

    protocol: str
    prop: str
    alloc_fails: bool
    memory: str
    forever: bool
    starves: int | None
    requests: tuple[tuple[Request, ...], ...]
    steps: tuple[_Step, ...]


Load = Callable[[str], Protocol]
"""Returns the protocol that a schedule names. Raises ``UserError`` if there is none."""


def replay(text: str, place: str, load: Load, *, shown: bool = True) -> Counterexample:
    """Run a schedule; the result is the counterexample it shows, every step checked.

    ``place`` names the file in errors. A schedule is data: ``load`` is called when the rest of the
    file has been judged, and decides whether it may name a file of Python code. Without ``shown``
    it may show nothing: one that is to be continued, for instance.

    Raises:
        UserError: naming the line, if the file is not a schedule or a step is not what the protocol
            does.
    """
    found = _read(text, place)
    scenario = Scenario(
        protocol=load(found.protocol),
        requests=found.requests,
        alloc_fails=found.alloc_fails,
        memory=found.memory,
        forever=found.forever,
    )
    loop_at = next((i for i, step in enumerate(found.steps) if step.text == LOOP), len(found.steps))
    steps = [step for step in found.steps if step.text != LOOP]
    schedule = _run(scenario, found.prop, steps, place)
    made = Counterexample(
        scenario, found.prop, schedule[:loop_at], schedule[loop_at:], found.starves
    )
    if shown and not shows(made):
        raise UserError(f"the schedule runs to its end and does not show {found.prop}", place=place)
    return made


def shows(shown: Counterexample) -> bool:
    """Say whether a counterexample, run step by step, ends in what it is said to show."""
    model, stepper = model_for(shown.scenario, shown.prop)
    run = run_schedule(model, shown.schedule + shown.loop, stepper=stepper)
    if shown.prop == safety.DEADLOCK or (shown.prop == starvation.NAME and shown.starves is None):
        return bool(run.stuck) and not shown.loop
    if shown.prop != starvation.NAME:
        return bool(run.lines and run.lines[-1].flags & (SAFETY | _ORDERING)[shown.prop])
    stem = run_schedule(model, shown.schedule, stepper=stepper)
    returns = {line.vcpu for line in run.lines[len(shown.schedule) :] if line.returns is not None}
    return (
        bool(shown.loop)
        and stem.state == run.state
        and shown.starves not in returns
        and _is_fair(stepper, stem.state, shown.loop)
    )


def _is_fair(stepper: Stepper, state: State, loop: Schedule) -> bool:
    """Say whether every vCPU makes a step on the loop, or cannot somewhere on it."""
    unmet = set(range(stepper.model.vcpus)) - {step.vcpu for step in loop}
    for step in loop:
        moves = list(stepper.moves(state))
        unmet &= {move.vcpu for move in moves}
        state = stepper.canonical(next(m.after for m in moves if (m.vcpu, m.choice) == step))
    return not unmet


_ORDERING = {ordering.NAME: ordering.FLAG}


_MOST_VCPUS = 64
"""Random runs may have more vCPUs than a search."""
_SHOWN = (*SAFETY, ordering.NAME, starvation.NAME)
_KEYS = {
    "protocol": None,
    "shows": _SHOWN,
    "alloc-fails": ("yes", "no"),
    "memory": MEMORY_MODELS,
    "forever": ("yes", "no"),
    "starves": None,
}
"""The keys of a header, and the values that each may have."""
_NAMES = {"shows": "property that a schedule can show", "memory": "memory model"}


def _read(text: str, place: str) -> _Read:
    lines = text.splitlines()
    if not lines or lines[0] != MAGIC:
        raise UserError("not a schedule file", place=f"{place}:1", mend=f"begin it with {MAGIC!r}")
    blank = lines.index("") if "" in lines else len(lines)
    header, requests = _header(lines[:blank], place)
    starves = header.get("starves")
    if starves is not None and _number(starves, len(requests)) is None:
        number = next(i for i, line in enumerate(lines, 1) if line.startswith("starves: "))
        raise UserError(f"unknown vCPU {_quoted(starves)}", place=f"{place}:{number}")
    return _Read(
        protocol=header["protocol"],
        prop=header.get("shows", "lost zap"),
        alloc_fails=header["alloc-fails"] == "yes",
        memory=header["memory"],
        forever=header["forever"] == "yes",
        starves=None if starves is None else int(starves),
        requests=tuple(requests),
        steps=tuple(_steps(lines, blank, place, len(requests))),
    )


def _quoted(text: str) -> str:
    """Return foreign text for a message: short, and nothing in it that a terminal obeys."""
    return ascii(text if len(text) <= 60 else text[:60] + "...")


def _number(text: str, below: int) -> int | None:
    """Return a vCPU's number, or None if there is no such vCPU."""
    good = text.isascii() and text.isdecimal() and len(text) <= len(str(below))
    return int(text) if good and int(text) < below else None


def _header(lines: list[str], place: str) -> tuple[dict[str, str], list[tuple[Request, ...]]]:
    """Return a header's keys, and each vCPU's requests."""
    header: dict[str, str] = {}
    requests: list[tuple[Request, ...]] = []
    for number, line in enumerate(lines[1:], 2):
        key, colon, value = line.partition(": ")
        at = f"{place}:{number}"
        if not colon:
            problem = f"invalid header line {_quoted(line)}"
            raise UserError(problem, place=at, mend="write key: value")
        if key == f"vcpu {len(requests)}" and len(requests) < _MOST_VCPUS:
            requests.append(_parsed(value, at))
        elif key in header or key not in _KEYS:
            mend = f"use {', '.join(_KEYS)} once each, and vcpu 0 to {_MOST_VCPUS - 1} in order"
            raise UserError(f"unexpected key {_quoted(key)}", place=at, mend=mend)
        else:
            header[key] = _valued(key, value, at)
    lacking = [key for key in _KEYS if key not in {*header, "shows", "starves"}]
    lacking += [] if requests else ["vcpu 0"]
    if lacking:
        raise UserError(f"the header lacks {lacking[0]!r}", place=place)
    return header, requests


def _valued(key: str, value: str, place: str) -> str:
    known = _KEYS[key]
    if known is not None and value not in known:
        name = {"shows": "property that a schedule can show", "memory": "memory model"}.get(
            key, key
        )
        problem = f"unknown {name} {_quoted(value)}"
        raise UserError(problem, place=place, mend=f"use one of {', '.join(known)}")
    return value


def _parsed(text: str, place: str) -> tuple[Request, ...]:
    """Read a vCPU's requests, and refuse those that no scenario can have."""
    requests = [request.split() for request in text.split("; ")]
    if len(requests) > MAX_REQUESTS or max(map(len, requests)) > MAX_RANGES:
        mend = f"use at most {MAX_REQUESTS:,} requests of {MAX_RANGES:,} ranges"
        raise UserError("too many requests or ranges", place=place, mend=mend)
    if not all(requests):
        raise UserError("a request without a range", place=place, mend="write START-END")
    return tuple(tuple(_range(each, place) for each in request) for request in requests)


def _range(text: str, place: str) -> Range:
    try:
        found = parse_range(text)
        if is_range(*found):
            return found
    except ValueError:
        pass
    mend = "write START-END, with 0 <= START < END <= 2^52"
    raise UserError(f"invalid range {_quoted(text)}", place=place, mend=mend)


def parse_range(text: str) -> Range:
    """Read ``start-end``, two numbers in any base Python knows.

    Raises:
        ValueError: if it is not that.
    """
    start, dash, end = text.partition("-")
    if not dash:
        raise ValueError(text)
    return Range(int(start, 0), int(end, 0))


def _steps(lines: list[str], blank: int, place: str, vcpus: int) -> Iterator[_Step]:
    loops = 0
    for number, line in enumerate(lines[blank + 1 :], blank + 2):
        vcpu, _, text = line.partition(" ")
        who = _number(vcpu, vcpus)
        if line == LOOP and not loops:
            loops += 1
            yield _Step(number, -1, LOOP)
        elif who is None or not text:
            raise UserError(
                f"invalid step {_quoted(line)}",
                place=f"{place}:{number}",
                mend=f"write the vCPU's number, 0 to {vcpus - 1}, and its operation",
            )
        else:
            yield _Step(number, who, text)


def _run(scenario: Scenario, prop: str, steps: list[_Step], place: str) -> Schedule:
    model, stepper = model_for(scenario, prop)
    state = stepper.canonical(model.initial)
    schedule: list[Choice] = []
    for step in steps:
        possible = []
        for move in stepper.moves(state):
            text = line_of(model, state, move).text
            if move.vcpu == step.vcpu:
                possible.append(text)
            if (move.vcpu, text) == (step.vcpu, step.text):
                schedule.append(Choice(move.vcpu, move.choice))
                state = stepper.canonical(move.after)
                break
        else:
            can = " or ".join(possible) or "nothing: it is blocked"
            raise UserError(
                f"vCPU {step.vcpu} cannot do {_quoted(step.text)} here",
                place=f"{place}:{step.number}",
                mend=f"it can do {can}",
            )
    return tuple(schedule)
