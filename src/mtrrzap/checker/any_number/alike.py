"""Local states that behave alike become one.

Once a vCPU has queued its ranges it often matters no more what they were. Two local states are
alike if they hold the same locks, do the same operation next, and on every value of its object both
are blocked, or both do the same to it and go on to local states that are alike. This is found by
partition refinement: all local states with the same next operation start in one set, and sets are
split until nothing changes.

The proof does not rest on this. A set of local states makes every step that any of its members
makes, so any partition gives a sound proof; this one loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mtrrzap.checker.any_number.steps import IDLE, BeyondError, Step, Steps
from mtrrzap.checker.memory_model import LocalState
from mtrrzap.errors import UserError
from mtrrzap.protocol.meaning import is_lock

MOST = 20_000
"""Local states beyond which none are merged: then each is a set of its own."""

_Row = tuple[Any, list[tuple[Any, ...]], list[int]]


class Alike:
    """The steps of sets of local states. Set 0 is ``IDLE`` alone."""

    def __init__(self, steps: Steps, reached: Iterable[int]) -> None:
        """Merge what behaves alike on the values that occur in ``reached``."""
        self._steps = steps
        self._set_of = _partition(steps, reached)
        self.members: list[list[int]] = [[] for _ in range(max(self._set_of) + 1)]
        for local, number in enumerate(self._set_of):
            self.members[number].append(local)
        self._known: dict[tuple[int, int], tuple[Step, ...]] = {}
        self._shifted: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.members)

    def of(self, local: int) -> int:
        """Return the set of a local state; one that was not known before is a set of its own."""
        while local >= len(self._set_of):
            self.members.append([len(self._set_of)])
            self._set_of.append(len(self.members) - 1)
        return self._set_of[local]

    def steps(self, values: int, number: int) -> tuple[Step, ...]:
        """Return every step that a member of the set makes, as steps between sets."""
        known = self._known.get((values, number))
        if known is None:
            found = {
                step._replace(local=self.of(step.local)): None
                for local in self.members[number]
                for step in self._steps.steps(values, local)
            }
            known = self._known[values, number] = tuple(found)
        return known

    def can_move(self, values: int, number: int) -> bool:
        """Say whether a vCPU in this set can make a step, whichever member it is in."""
        return all(self._steps.steps(values, local) for local in self.members[number])

    def calls(self, values: int, kind: int) -> tuple[Step, ...]:
        """Return every first step of a call for request number ``kind``."""
        first = self._steps.steps(values, self._steps.starts[kind])
        return tuple(step._replace(local=self.of(step.local)) for step in first)

    def shifted(self, number: int, by: int) -> int:
        """Return the set with all its numbers counted from ``by`` further on.

        Raises:
            BeyondError: if its members go different ways.
        """
        if not by:
            return number
        known = self._shifted.get((number, by))
        if known is None:
            after = {self.of(self._steps.shifted(each, by)) for each in self.members[number]}
            if len(after) > 1:
                raise BeyondError("local states that were alike are not after a shift")
            known = self._shifted[number, by] = after.pop()
        return known

    def holds_lock(self, number: int) -> bool:
        """Say whether a vCPU in this set of local states holds a lock."""
        return number != IDLE and bool(self._steps.local(self.members[number][0]).held)

    def takes_lock(self, number: int) -> bool:
        """Say whether the next step of a vCPU in this set takes a lock."""
        if number == IDLE:
            return False
        operation = self._steps.model.operation(self._steps.local(self.members[number][0]))
        return operation is not None and is_lock(operation)


def _partition(steps: Steps, reached: Iterable[int]) -> list[int]:
    """Return for each local state the number of its set."""
    rows = _rows(steps, reached)
    if rows is None:
        return list(range(len(steps.locals)))
    found = dict.fromkeys(rows, 1) | {IDLE: IDLE}
    sets = 1
    while True:
        numbers: dict[Any, int] = {}
        found = {IDLE: IDLE} | {
            local: numbers.setdefault(_looks(row, found), len(numbers) + 1)
            for local, row in rows.items()
        }
        if len(numbers) == sets:
            return [found[local] for local in range(len(steps.locals))]
        sets = len(numbers)


def _looks(row: _Row, found: dict[int, int]) -> Any:
    head, steps, shifts = row
    return (
        head,
        tuple((*step[:-1], found[step[-1]]) for step in steps),
        tuple(found[local] for local in shifts),
    )


def _rows(steps: Steps, reached: Iterable[int]) -> dict[int, _Row] | None:
    """Return what each local state does on every value of its object, and where shifts lead.

    This asks for more than can happen, so it may find more local states; None if they are too many.
    """
    values: list[set[int]] = [set() for _ in steps.model.values]
    for each in reached:
        for at, number in enumerate(steps.values.items[each]):
            values[at].add(number)
    shifts = sorted(steps.shifts)
    rows: dict[int, _Row] = {}
    local = IDLE
    while (local := local + 1) < len(steps.locals):
        if local > MOST:
            return None
        rows[local] = _row(steps, local, values, shifts)
    return rows


def _row(steps: Steps, local: int, values: list[set[int]], shifts: list[int]) -> _Row:
    at: LocalState = steps.local(local)
    operation = steps.model.operation(at)
    found = [
        _does(steps, local, choice, value)
        for choice, option in enumerate(steps.alternatives(local))
        for value in sorted(values[option.target])
    ]
    return (operation, at.held), found, [steps.shifted(local, by) for by in shifts]


def _does(steps: Steps, local: int, choice: int, value: int) -> tuple[Any, ...]:
    """Return what a choice does on a value; the last item is the local state after it."""
    try:
        entry = steps.entry(local, choice, value)
    except (UserError, BeyondError) as error:
        # It may not be able to happen, and if it can the search meets it.
        return ("fails", str(error), IDLE)
    return ("blocked", IDLE) if entry is None else entry
