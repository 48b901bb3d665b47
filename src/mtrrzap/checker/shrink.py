"""Make a schedule that shows a violation small, and keep it one that the protocol can do.

Steps are left out and the rest is run: a step that can no longer be made is skipped, and the
schedule ends where the violation shows. First whole vCPUs go, then pieces of half, a quarter, … of
the steps (delta debugging: Zeller and Hildebrandt, TSE 2002), down to single ones. What is left
lacks no step that it could lack, which does not make it a shortest one. At last steps of one vCPU
are moved together, so that it reads well.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from mtrrzap.checker.check import SAFETY, Counterexample
from mtrrzap.checker.properties import safety
from mtrrzap.checker.result import Choice, Schedule
from mtrrzap.checker.schedule import model_for

TRIES = 2000
"""Schedules that are tried at most."""


def shrunk(shown: Counterexample) -> Counterexample:
    """Return a counterexample to the same property in the same scenario, no longer than this one.

    One with a loop, or of a property that no single execution decides, is returned as it is.
    """
    if shown.loop or shown.prop not in SAFETY:
        return shown
    runs = _Runs(shown)
    best = runs.violating(shown.schedule)
    if best is None:
        return shown
    for vcpu in sorted({step.vcpu for step in best}):
        best = runs.violating([s for s in best if s.vcpu != vcpu]) or best
    best = _without_pieces(runs, best)
    return replace(shown, schedule=_together(runs, best))


class _Runs:
    """Runs candidates in one model, and counts them."""

    def __init__(self, shown: Counterexample) -> None:
        self.left = TRIES
        self._model, self._stepper = model_for(shown.scenario, shown.prop)
        self._flag = SAFETY[shown.prop]
        self._stuck = shown.prop == safety.DEADLOCK

    def violating(self, steps: Sequence[Choice]) -> Schedule | None:
        """Return the steps that could be made up to the violation, None if there is none."""
        self.left -= 1
        state, made = self._model.initial, []
        for step in steps:
            moves = self._stepper.moves(state)
            move = next((m for m in moves if (m.vcpu, m.choice) == step), None)
            if move is None:
                continue
            made.append(step)
            state = move.after
            if move.flags & self._flag:
                return tuple(made)
        stuck = self._stuck and not any(True for _ in self._stepper.moves(state))
        return tuple(made) if stuck and not self._stepper.finished(state) else None


def _without_pieces(runs: _Runs, best: Schedule) -> Schedule:
    size = len(best) // 2
    while size and runs.left > 0:
        at, cut = 0, False
        while at < len(best) and runs.left > 0:
            shorter = runs.violating(best[:at] + best[at + size :])
            if shorter is not None and len(shorter) < len(best):
                best, cut = shorter, True
            else:
                at += size
        size = min(size, len(best)) if cut and size == 1 else size // 2
    return best


def _together(runs: _Runs, best: Schedule) -> Schedule:
    """Move steps to the step before of the same vCPU, if that makes fewer changes of vCPU."""
    at = 1
    while at < len(best) and runs.left > 0:
        vcpu = best[at].vcpu
        before = next((i for i in range(at - 1, -1, -1) if best[i].vcpu == vcpu), at)
        if before < at - 1:
            moved = (*best[: before + 1], best[at], *best[before + 1 : at], *best[at + 1 :])
            found = runs.violating(moved)
            if found is not None and len(found) <= len(best) and _changes(found) < _changes(best):
                best = found
        at += 1
    return best


def _changes(steps: Schedule) -> int:
    return sum(a.vcpu != b.vcpu for a, b in itertools.pairwise(steps))
