"""Schedule files: write one, and run one again step by step.

The file is text. A header of ``key: value`` lines names the scenario. Then every step is a line:
the vCPU, and its operation as :class:`protocol.Operation` renders it. A step that the protocol does
not make (any more) is an error that names the line.
"""

from __future__ import annotations

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
from mtrrzap.checker.scenario import MEMORY_MODELS, Request, Scenario
from mtrrzap.checker.stepper import Stepper
from mtrrzap.checker.trace import line_of, trace
from mtrrzap.errors import UserError
from mtrrzap.protocol import Protocol, Range

MAGIC = "# mtrrzap schedule 1"
LOOP = "for ever:"


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
    lines = trace(model, shown.schedule + shown.loop, stepper=stepper).lines
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


Load = Callable[[str], Protocol]
"""Returns the protocol that a schedule names. Raises ``UserError`` if there is none."""


def replay(text: str, place: str, load: Load, *, shown: bool = True) -> Counterexample:
    """Run a schedule; the result is the counterexample it shows, every step checked.

    ``place`` names the file in errors. Without ``shown`` it may show nothing: one that is to be
    continued, for instance.

    Raises:
        UserError: naming the line, if the file is not a schedule or a step is not what the protocol
            does.
    """
    lines = text.splitlines()
    if not lines or lines[0] != MAGIC:
        raise UserError("not a schedule file", place=f"{place}:1", mend=f"begin it with {MAGIC!r}")
    blank = lines.index("") if "" in lines else len(lines)
    header = dict(_header(lines[1:blank], place))
    scenario = _scenario(header, place, load)
    if scenario.memory not in MEMORY_MODELS:
        raise UserError(
            f"unknown memory model {scenario.memory!r}",
            place=_at(lines, "memory", place),
            mend="use sc or tso",
        )
    prop = header.get("shows", "lost zap")
    if prop not in (*SAFETY, ordering.NAME, starvation.NAME):
        raise UserError(
            f"{prop!r} is not a property that a schedule can show",
            place=_at(lines, "shows", place),
            mend=f"use one of {', '.join((*SAFETY, ordering.NAME, starvation.NAME))}",
        )
    starves = _starves(header, scenario, _at(lines, "starves", place))
    steps = list(_steps(lines, blank, place))
    loop_at = next((i for i, step in enumerate(steps) if step.text == LOOP), len(steps))
    schedule = _run(scenario, prop, [step for step in steps if step.text != LOOP], place)
    found = Counterexample(scenario, prop, schedule[:loop_at], schedule[loop_at:], starves)
    if shown and not shows(found):
        raise UserError(f"the schedule runs to its end and does not show {prop}", place=place)
    return found


def shows(shown: Counterexample) -> bool:
    """Say whether a counterexample, run step by step, ends in what it is said to show."""
    model, stepper = model_for(shown.scenario, shown.prop)
    run = trace(model, shown.schedule + shown.loop, stepper=stepper)
    if shown.prop == safety.DEADLOCK or (shown.prop == starvation.NAME and shown.starves is None):
        return bool(run.stuck) and not shown.loop
    if shown.prop != starvation.NAME:
        return bool(run.lines and run.lines[-1].flags & (SAFETY | _ORDERING)[shown.prop])
    stem = trace(model, shown.schedule, stepper=stepper)
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


def _at(lines: list[str], key: str, place: str) -> str:
    number = next((i for i, line in enumerate(lines, 1) if line.startswith(f"{key}: ")), 1)
    return f"{place}:{number}"


def _starves(header: dict[str, str], scenario: Scenario, place: str) -> int | None:
    text = header.get("starves")
    if text is None:
        return None
    if not text.isdecimal() or not text.isascii() or int(text) >= scenario.vcpus:
        raise UserError(f"unknown vCPU {text!r}", place=place)
    return int(text)


def _header(lines: list[str], place: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, 2):
        key, colon, value = line.partition(": ")
        if not colon:
            raise UserError(
                f"invalid header line {line!r}", place=f"{place}:{number}", mend="write key: value"
            )
        yield key, value


def _scenario(header: dict[str, str], place: str, load: Load) -> Scenario:
    vcpus = [value for key, value in header.items() if key.startswith("vcpu ")]
    if not vcpus:
        raise UserError("the header lacks 'vcpu 0'", place=place)
    try:
        return Scenario(
            protocol=load(header["protocol"]),
            requests=tuple(_parsed(value) for value in vcpus),
            alloc_fails=header["alloc-fails"] == "yes",
            memory=header["memory"],
            forever=header["forever"] == "yes",
        )
    except KeyError as error:
        raise UserError(f"the header lacks {error}", place=place) from error
    except ValueError as error:
        raise UserError(f"invalid range: {error}", place=place) from error


def _parsed(text: str) -> tuple[Request, ...]:
    return tuple(
        tuple(parse_range(each) for each in request.split()) for request in text.split("; ")
    )


def parse_range(text: str) -> Range:
    """Read ``start-end``, two numbers in any base Python knows.

    Raises:
        ValueError: if it is not that.
    """
    start, dash, end = text.partition("-")
    if not dash:
        raise ValueError(text)
    return Range(int(start, 0), int(end, 0))


def _steps(lines: list[str], blank: int, place: str) -> Iterator[_Step]:
    for number, line in enumerate(lines[blank + 1 :], blank + 2):
        if line == LOOP:
            yield _Step(number, -1, LOOP)
            continue
        vcpu, _, text = line.partition(" ")
        if not (vcpu.isascii() and vcpu.isdecimal()) or not text:
            raise UserError(
                f"invalid step {line!r}",
                place=f"{place}:{number}",
                mend="write the vCPU's number and its operation",
            )
        yield _Step(number, int(vcpu), text)


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
                f"vCPU {step.vcpu} cannot do {step.text!r} here",
                place=f"{place}:{step.number}",
                mend=f"it can do {can}",
            )
    return tuple(schedule)
