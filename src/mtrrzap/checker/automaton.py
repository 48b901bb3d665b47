"""Learn what one vCPU does: run its generator, and recognise the places where it stands.

A generator cannot be copied, but it is deterministic: to go on from a place twice, run a new one
and send it the same results. Two places are the same if all frames stand at the same instruction
with the same locals and the same temporaries; where something in a frame cannot be compared, the
results sent so far stand in for it, which is always right and only merges less.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from mtrrzap.checker.hidden import Hidden
from mtrrzap.errors import UserError
from mtrrzap.protocol import (
    Operation,
    Protocol,
    Range,
    Sequence,
    SharedObject,
    SharedState,
    Steps,
)
from mtrrzap.protocol.numbers import positions
from mtrrzap.protocol.standing import UnfreezableError, freeze, key, standing
from mtrrzap.protocol.watched import Watched
from mtrrzap.protocol.yielded import where

LONG = 64
"""Operations into a call after which generators are kept, to go on with: running each place's
operations from the start would take time quadratic in the length of a call."""

KEPT = 16
"""Generators that are kept, at most."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vCPU stands within one call: the operation it will do next, or None at the end.

    ``key`` is equal for places that behave alike. ``results`` and ``operations`` lead there.
    """

    key: Hashable
    operation: Operation | None
    results: tuple[Any, ...]
    operations: tuple[Operation, ...]
    where: str


class Automaton:
    """All the places of one protocol function, learned on demand."""

    def __init__(self, protocol: Protocol, vm: SharedState) -> None:
        self._protocol = protocol
        self._vm = vm
        self.objects: tuple[SharedObject, ...] = vm.objects()
        self._hidden = Hidden(protocol)
        self._started: dict[tuple[Range, ...], Place] = {}
        self._after: dict[Hashable, tuple[Place, Place]] = {}
        self._kept: dict[int, tuple[Place, Watched]] = {}

    def start(self, ranges: tuple[Range, ...]) -> Place:
        """Return the place before the first operation of a call for ``ranges``."""
        if ranges not in self._started:
            self._started[ranges] = self.replay(ranges, ())
        return self._started[ranges]

    def after(self, ranges: tuple[Range, ...], place: Place, result: Any) -> Place:
        """Return the place after ``place``'s operation has sent back ``result``.

        Raises:
            UserError: if the protocol fails, yields something else than an operation, does not
                end, or does not repeat what it did before with the same results.
        """
        try:
            step = (id(place), freeze(result))
        except UnfreezableError:
            return self._go_on(ranges, place, result)
        if step not in self._after:
            after = self._go_on(ranges, place, result)
            self._after[step] = place, after  # the place too: an id is not used again
        return self._after[step][1]

    def _go_on(self, ranges: tuple[Range, ...], place: Place, result: Any) -> Place:
        results = (*place.results, result)
        kept = self._kept.pop(id(place), None)
        if kept is None:
            return self.replay(ranges, results, place.operations)
        return self._run(kept[1], results, place.operations, sent=len(results) - 1)

    def replay(
        self,
        ranges: tuple[Range, ...],
        results: tuple[Any, ...],
        expected: tuple[Operation, ...] | None = None,
    ) -> Place:
        """Run a new generator and send it ``results``; check the ``expected`` operations."""
        call = Watched(self._protocol, self._vm, ranges)
        return self._run(call, results, expected, sent=None)

    def _run(
        self,
        call: Watched,
        results: tuple[Any, ...],
        expected: tuple[Operation, ...] | None,
        *,
        sent: int | None,
    ) -> Place:
        place = None
        try:
            place = self._place(call, results, expected, sent)
        finally:
            if place is None or place.operation is None or len(results) < LONG:
                call.close()
        if place.operation is not None and len(results) >= LONG:
            self._kept[id(place)] = place, call
            if len(self._kept) > KEPT:
                self._kept.pop(next(iter(self._kept)))[1].close()
        return place

    def _place(
        self,
        call: Watched,
        results: tuple[Any, ...],
        expected: tuple[Operation, ...] | None,
        sent: int | None,
    ) -> Place:
        """Send what was not sent yet; ``sent`` is None for a generator that has not begun."""
        first = 0 if sent is None else sent + 1
        operations = list(expected[:first]) if expected is not None else []
        for i in range(first, len(results) + 1):
            last = i == len(results)
            before = expected[i] if expected is not None and not last else None
            send = results[i - 1] if i else None
            operation = self._send(call, send, watched=last, before=before)
            if last:
                self._check_hidden(call.steps)
            if before is not None and operation is not before:
                raise UserError(
                    f"{self._protocol.name} yielded {before} here before, and now yields "
                    f"{operation} after the same results",
                    place=where(call.steps) or self._home(),
                    mend="keep state in shared objects only",
                )
            if operation is None:
                return Place(("end",), None, results, tuple(operations), self._home())
            operations.append(operation)
        found = operations[-1]
        return Place(
            key=(_key(call.steps, results), found.target, found.verb, key(found.args), found.order),
            operation=found,
            results=results,
            operations=tuple(operations),
            where=where(call.steps),
        )

    def _check_hidden(self, steps: Steps) -> None:
        name = self._hidden.changed()
        if name is not None:
            raise UserError(
                f"the protocol changes {name}, which all vCPUs share, without an operation",
                place=where(steps) or self._home(),
                mend="keep state in shared objects only",
            )

    def _home(self) -> str:
        code = self._protocol.call.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    def _send(
        self, call: Watched, value: Any, *, watched: bool, before: Operation | None
    ) -> Operation | None:
        """Return the next operation: ``before`` itself, already judged, if it is equal to that."""
        operation = call.send(value, bounded=watched, before=before)
        if operation is None or operation is before:
            return operation
        if not isinstance(operation.target, Sequence) and positions(operation.args):
            raise UserError(
                f"{operation} takes a Sequence's number, which only a Sequence understands",
                place=where(call.steps),
                mend="pass it to a Sequence only",
            )
        return operation


def _key(steps: Steps, results: tuple[Any, ...]) -> Hashable:
    try:
        return standing(steps)
    except UnfreezableError:
        return ("results", tuple(map(key, results)))
