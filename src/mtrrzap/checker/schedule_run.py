"""A schedule made visible: what each step did, in words, to which shared object."""

from dataclasses import dataclass
from typing import Any

from mtrrzap.checker.memory_model import LocalState
from mtrrzap.checker.model import Model, State
from mtrrzap.checker.result import Schedule
from mtrrzap.checker.stepper import Move, Stepper
from mtrrzap.protocol import Allocator, Cpu, Mmu
from mtrrzap.protocol.operation import show_range

HIDDEN = Mmu, Allocator, Cpu
"""Objects without a value that one could look at."""

_SILENT = frozenset(
    {"zap_begin", "zap_end", "join", "lock", "unlock", "store", "post", "advance", "clear"}
    | {"wait_until", "wait_reached", "relax"}
)
"""Operations that send back nothing, or nothing that one does not know."""


@dataclass(frozen=True)
class StepLine:
    """One step: who did what, what changed, and what began or ended with it.

    ``calls`` and ``returns`` name the ranges of a call that this step begins or ends; ``lost`` says
    that it returned too early, or what else this step did wrong (see ``flags``).
    """

    vcpu: int
    text: str
    changed: tuple[str, ...]
    calls: str | None
    returns: str | None
    flags: int
    where: str


@dataclass(frozen=True)
class ScheduleRun:
    """A schedule's steps, the shared state before them, and who stands where after them."""

    vcpus: int
    before: tuple[str, ...]
    lines: tuple[StepLine, ...]
    state: State
    stuck: tuple[tuple[int, str], ...]
    """``(vcpu, what it waits for)`` for every vCPU that cannot go on, if none can."""
    flags: int


def run_schedule(
    model: Model, schedule: Schedule, *, stepper: Stepper | None = None
) -> ScheduleRun:
    """Run a schedule from the start. Steps are of actual vCPUs: there is no symmetry here."""
    stepper = stepper or Stepper(model, symmetry=False)
    state = stepper.canonical(model.initial)
    lines = []
    flags = 0
    for vcpu, choice in schedule:
        move = next(m for m in stepper.moves(state) if (m.vcpu, m.choice) == (vcpu, choice))
        lines.append(line_of(model, state, move))
        flags |= move.flags
        state = stepper.canonical(move.after)
    return ScheduleRun(
        vcpus=model.vcpus,
        before=tuple(_drawn(model, model.initial)),
        lines=tuple(lines),
        state=state,
        stuck=_stuck(stepper, state),
        flags=flags,
    )


def line_of(model: Model, state: State, move: Move) -> StepLine:
    """Describe one transition."""
    local: LocalState = model.locals.items[state[move.vcpu]]
    after: LocalState = model.locals.items[move.after[move.vcpu]]
    option = model.alternatives[state[move.vcpu]][move.choice]
    assert local.place is not None or option.flush
    changed = []
    before, now = _drawn(model, state), _drawn(model, move.after)
    for old, new in zip(before, now, strict=True):
        if old != new:
            changed.append(new)
    returned = not option.flush and local.place is not None and _ended(local, after)
    return StepLine(
        vcpu=move.vcpu,
        text=_text(model, state, move),
        changed=tuple(changed),
        calls=_ranges(model, local) if local.calling and not option.flush else None,
        returns=_ranges(model, local) if returned else None,
        flags=move.flags,
        where=local.place.where if local.place else "",
    )


def _ended(local: LocalState, after: LocalState) -> bool:
    if after.place is None or after.request != local.request:
        return True
    return after.calling and after.phase == 0


def _text(model: Model, state: State, move: Move) -> str:
    local: LocalState = model.locals.items[state[move.vcpu]]
    after: LocalState = model.locals.items[move.after[move.vcpu]]
    option = model.alternatives[state[move.vcpu]][move.choice]
    if option.flush:
        return f"(visible) {option.operation}"
    if len(after.buffer) > len(local.buffer):
        return f"(buffered) {option.operation}"
    if option.operation.verb in _SILENT and option.operation.target.is_symmetric():
        return str(option.operation)
    value = model.values[option.target].items[state[model.vcpus + option.target]]
    seen = option.seen[0] if option.seen else value
    result = option.operation.target.effect(seen, option.operation, move.vcpu)[option.choice][1]
    return f"{option.operation} = {show_result(result)}"


def show_result(result: Any) -> str:
    """Render what an operation sent back."""
    if isinstance(result, tuple):
        if result and isinstance(result[0], int):
            return show_range(*result)
        return "{" + " ".join(show_range(*each) for each in result) + "}"
    return str(result)


def _ranges(model: Model, local: LocalState) -> str:
    group = model.groups.index(local.group)
    ranges = model.scenario.requests[group][local.request]
    return " ".join(show_range(*each) for each in ranges)


def _drawn(model: Model, state: State) -> list[str]:
    return [
        known.draw(model.values[i].items[state[model.vcpus + i]])
        for i, known in enumerate(model.objects)
        if not isinstance(known, HIDDEN)
    ]


def _stuck(stepper: Stepper, state: State) -> tuple[tuple[int, str], ...]:
    if any(True for _ in stepper.moves(state)) or stepper.finished(state):
        return ()
    model = stepper.model
    return tuple(
        (vcpu, str(model.operation(model.locals.items[state[vcpu]])))
        for vcpu in range(model.vcpus)
        if not model.finished(state[vcpu])
    )
