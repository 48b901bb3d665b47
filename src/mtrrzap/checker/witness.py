"""A witness: one interleaving in which everything goes well, to see that a check is not empty.

*Holds* would also be true of a protocol that never gets anywhere. A witness shows a run in which
every vCPU makes all its requests, every call returns, and nothing is violated. One is looked for in
which vCPUs take turns as often as they can, because that shows how they wait for each other; if
that one goes wrong, others are taken at random.
"""

import random
from collections.abc import Callable

from mtrrzap.checker.model import Model, State
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.result import Choice, Schedule
from mtrrzap.checker.scenario import Scenario
from mtrrzap.checker.stepper import Move, Stepper

NAME = "witness"

TRIES = 1000
"""Interleavings that are tried at most."""

LONGEST = 100_000
"""Steps after which one is given up."""

Choose = Callable[[list[Move], int], Move]
"""Chooses among the possible moves; the number is the vCPU that moved last."""


def witness(scenario: Scenario) -> Schedule | None:
    """Return an interleaving that violates nothing and ends, or None if none was found."""
    model = Model(scenario, LostZap(scenario))
    stepper = Stepper(model, symmetry=False)
    found = _run(stepper, model.initial, _in_turn)
    dice = random.Random(0)
    for _ in range(TRIES):
        if found is not None:
            break
        found = _run(stepper, model.initial, lambda moves, _: dice.choice(moves))
    return found


def _in_turn(moves: list[Move], last: int) -> Move:
    return next((move for move in moves if move.vcpu > last), moves[0])


def _run(stepper: Stepper, state: State, choose: Choose) -> Schedule | None:
    steps: list[Choice] = []
    last = -1
    while len(steps) < LONGEST:
        moves = list(stepper.moves(state))
        if not moves:
            return tuple(steps) if stepper.finished(state) else None
        move = choose(moves, last)
        if move.flags:
            return None
        steps.append(Choice(move.vcpu, move.choice))
        state, last = move.after, move.vcpu
    return None
