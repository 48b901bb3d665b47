"""Exhaustive breadth-first search in plain Python: the oracle, and the engine for few states."""

import sys
import time
from collections.abc import Callable

from mtrrzap.checker.model import Model, State
from mtrrzap.checker.properties import safety
from mtrrzap.checker.result import INTERRUPTED, Choice, Exploration, Found, Limits, Schedule
from mtrrzap.checker.stepper import Stepper

Progress = Callable[[int, float, int], None]
"""Called now and then with states seen, seconds gone, and states waiting to be expanded."""

_EVERY = 4096
_CLOCK = 64
"""States between two looks at the clock."""


class Search:
    """One breadth-first search: every state once, in the order of its distance from the start."""

    def __init__(
        self,
        model: Model,
        *,
        symmetry: bool = True,
        wanted: int = 0,
        limits: Limits | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Stop early once every flag in ``wanted`` was raised (0: never)."""
        self.stepper = Stepper(model, symmetry=symmetry)
        self._wanted = wanted
        self._limits = limits or Limits()
        self._progress = progress
        self.states: list[State] = []
        self.parents: list[int] = []
        self._seen: dict[State, int] = {}
        self._levels: list[int] = []
        self.result = Exploration()
        self.full = False
        """Whether it stopped because of the limit of states."""
        self._ends: dict[int, tuple[int, Choice | None]] = {}

    def run(self) -> Exploration:
        """Search to the end, to the last wanted violation, to a limit, or until Ctrl-C."""
        started = time.perf_counter()
        self._visit(self.stepper.canonical(self.stepper.model.initial), -1)
        at = 0
        try:
            while at < len(self.states) and not self._stops(at, started):
                self._expand(at)
                at += 1
        except KeyboardInterrupt:
            self.result.cut = INTERRUPTED
        return self._finish(at, time.perf_counter() - started)

    def _visit(self, state: State, parent: int) -> None:
        if state not in self._seen:
            self._seen[state] = len(self.states)
            self.states.append(state)
            self.parents.append(parent)
            self._levels.append(0 if parent < 0 else self._levels[parent] + 1)

    def _expand(self, at: int) -> None:
        state = self.states[at]
        moves = 0
        for move in self.stepper.moves(state):
            moves += 1
            if move.flags:
                self._note(move.flags, at, Choice(move.vcpu, move.choice))
            self._visit(self.stepper.canonical(move.after), at)
        self.result.transitions += moves
        if moves == 0 and not self.stepper.finished(state):
            self._note(safety.DEADLOCK_FLAG, at, None)

    def _note(self, flags: int, at: int, last: Choice | None) -> None:
        flag = 1
        while flag <= flags:
            if flags & flag:
                self._ends.setdefault(flag, (at, last))
            flag <<= 1

    def _stops(self, at: int, started: float) -> bool:
        raised = sum(self._ends)
        if self._wanted and self._wanted & ~raised == 0:
            self.result.cut = "every violation asked for was found"
            return True
        states = len(self.states)
        if self._limits.states is not None and states >= self._limits.states:
            self.result.cut = f"limit of {self._limits.states:,} states"
            self.full = True
            return True
        if at % _EVERY == 0 and self._progress:
            self._progress(states, time.perf_counter() - started, states - at)
        if at % _CLOCK == 0:
            limits = self._limits
            self.result.cut = limits.late(started) or limits.big(states * self._per_state())
        return self.result.cut is not None

    def _per_state(self) -> int:
        """Return roughly the bytes of one state: its tuple, its dict entry, its list entries."""
        return sys.getsizeof(self.states[0]) + 100

    def _finish(self, at: int, seconds: float) -> Exploration:
        result = self.result
        result.states = len(self.states)
        result.depth = self._levels[-1]
        result.frontier = len(self.states) - at
        result.seconds = seconds
        result.bytes = self._per_state() * len(self.states)
        for flag, (end, last) in self._ends.items():
            path = [self.states[i] for i in _ancestors(self.parents, end)]
            result.violations[flag] = Found(flag, schedule(self.stepper, path, last, flag))
        return result


def _ancestors(parents: list[int], at: int) -> list[int]:
    path = []
    while at >= 0:
        path.append(at)
        at = parents[at]
    return path[::-1]


def schedule(stepper: Stepper, path: list[State], last: Choice | None, flag: int) -> Schedule:
    """Turn a path of canonical states into steps of actual vCPUs, from the actual start.

    ``last`` is the step out of the path's last state that raised ``flag``, in canonical names.
    """
    actual = stepper.model.initial
    steps: list[Choice] = []
    for canonical in path[1:]:
        for move in stepper.moves(actual):
            if stepper.canonical(move.after) == canonical:
                steps.append(Choice(move.vcpu, move.choice))
                actual = move.after
                break
        else:
            return _renamed(stepper, path, last, flag)
    if last is not None:
        move = next(move for move in stepper.moves(actual) if move.flags & flag)
        steps.append(Choice(move.vcpu, move.choice))
    return tuple(steps)


def _renamed(stepper: Stepper, path: list[State], last: Choice | None, flag: int) -> Schedule:
    """Do the same along the canonical states themselves, and keep track of who is who.

    Two vCPUs that tie in what they are sorted by need not be sorted alike under other names, so the
    actual states may have no canonical form that is on the path.
    """
    order = list(range(stepper.model.vcpus))
    state = stepper.canonical(stepper.model.initial, order)
    steps: list[Choice] = []
    for canonical in path[1:]:
        moves = stepper.moves(state)
        move = next(move for move in moves if stepper.canonical(move.after) == canonical)
        steps.append(Choice(order[move.vcpu], move.choice))
        state = stepper.canonical(move.after, order)
    if last is not None:
        move = next(move for move in stepper.moves(state) if move.flags & flag)
        steps.append(Choice(order[move.vcpu], move.choice))
    return tuple(steps)
