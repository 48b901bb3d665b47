"""Run executions one by one, each step chosen by a strategy. Sees some interleavings, not all."""

import time
from dataclasses import dataclass, field

from mtrrzap.checker.explore import Progress
from mtrrzap.checker.model import Model, State
from mtrrzap.checker.properties import safety
from mtrrzap.checker.result import INTERRUPTED, Choice, Exploration, Found, Limits
from mtrrzap.checker.stepper import Move, Stepper
from mtrrzap.checker.strategies import Strategy

LONGEST = 100_000
"""Steps after which one execution is given up."""


@dataclass
class _Tally:
    seen: set[State] = field(default_factory=set)
    steps: int = 0
    deepest: int = 0
    found: dict[int, Found] = field(default_factory=dict)


def sample(
    model: Model,
    strategy: Strategy,
    runs: int,
    *,
    wanted: int = 0,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Exploration:
    """Make ``runs`` executions; the result is always *cut*: nothing is proved this way.

    A schedule that shows a violation is the shortest seen, not the shortest there is.
    """
    stepper, tally = Stepper(model, symmetry=False), _Tally()
    started, done = time.perf_counter(), 0
    why = f"{runs:,} executions ({strategy.name})"
    try:
        for done in range(runs):
            late = limits and limits.late(started)
            if late:
                why = f"{late} after {done:,} executions"
                break
            strategy.begin(done, model.vcpus)
            _execution(stepper, strategy, tally)
            if progress and done % 64 == 0:
                progress(len(tally.seen), time.perf_counter() - started, runs - done)
            if wanted and wanted & ~sum(tally.found) == 0:
                why = f"found after {done + 1:,} executions ({strategy.name})"
                break
    except KeyboardInterrupt:
        why = f"{INTERRUPTED} after {done:,} executions"
    return Exploration(
        states=len(tally.seen),
        transitions=tally.steps,
        depth=tally.deepest,
        seconds=time.perf_counter() - started,
        cut=why,
        engine=strategy.name,
        violations=tally.found,
    )


def _execution(stepper: Stepper, strategy: Strategy, tally: _Tally) -> None:
    state = stepper.model.initial
    steps: list[Choice] = []
    while len(steps) < LONGEST:
        tally.seen.add(state)
        moves: list[Move] = list(stepper.moves(state))
        if not moves:
            if not stepper.finished(state):
                _note(tally, safety.DEADLOCK_FLAG, steps)
            break
        move = moves[strategy.choose(len(steps), [move.vcpu for move in moves])]
        steps.append(Choice(move.vcpu, move.choice))
        state = move.after
        _note(tally, move.flags, steps)
    tally.steps += len(steps)
    tally.deepest = max(tally.deepest, len(steps))


def _note(tally: _Tally, flags: int, steps: list[Choice]) -> None:
    for bit in range(flags.bit_length()):
        flag = 1 << bit
        known = tally.found.get(flag)
        if flags & flag and (known is None or len(steps) < len(known.schedule)):
            tally.found[flag] = Found(flag, tuple(steps))
