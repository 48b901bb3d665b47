"""One vCPU, for the verifier: where it can stand in a call, and every step from there.

The protocol's generator is run anew for each step. This rests on ``mtrrzap.protocol``, which says
what an operation does to its object and to the order of memory, and where a generator stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

from mtrrzap.protocol import Number, Operation, Protocol, Range, Sequence, SharedObject
from mtrrzap.protocol.atomic import position_of
from mtrrzap.protocol.meaning import is_alloc, is_lock, is_zap, lacks_lock
from mtrrzap.protocol.numbers import counted_from, far, positions, renumbered
from mtrrzap.protocol.operation import is_range
from mtrrzap.protocol.standing import UnfreezableError, freeze, standing
from mtrrzap.protocol.watched import Watched

IDLE = 0
"""The state of a vCPU between two calls."""

BEGINS, ENDS = 1, 2
"""The halves of a zap."""


class RejectedError(Exception):
    """The certificate does not prove what it says; the text says where."""


def expect(true: object, otherwise: str) -> None:
    """Raise ``RejectedError`` unless it is true."""
    if not true:
        raise RejectedError(otherwise)


class Local(NamedTuple):
    """Where a vCPU stands in a call: ``results`` have led there, and it goes on as ``key`` says."""

    request: int
    results: tuple[Any, ...]
    phase: int
    operation: Operation | None
    held: frozenset[SharedObject]
    key: Any


class Step(NamedTuple):
    """One step: values and state after it, by how much all numbers shift, and what it did.

    ``phase`` is ``BEGINS`` or ``ENDS`` for a zap.
    """

    values: int
    state: int
    shift: int
    operation: Operation
    result: Any
    phase: int


class CertifiedVcpu:
    """Any one of the vCPUs that a certificate is about. A state is a list of local states."""

    def __init__(self, text: dict[str, Any], protocol: Protocol) -> None:
        self._protocol, self._vm = protocol, protocol.vm()
        self._fails, self._holds = text["alloc-fails"], text["holds"]
        self.objects = self._vm.objects()
        expect(text["objects"] == [each.name for each in self.objects], "other objects")
        expect(all(each.is_symmetric() for each in self.objects), "an object knows who uses it")
        self._sequences = [i for i, each in enumerate(self.objects) if isinstance(each, Sequence)]
        same = all(type(self.objects[i]).effect is Sequence.effect for i in self._sequences)
        expect(same, "a Sequence with an effect of its own")
        self.requests = [tuple(Range(*part) for part in each) for each in text["requests"]]
        parts = [is_range(*part) for each in self.requests for part in each]
        expect(self.requests and all(self.requests) and all(parts), "invalid request")
        self._values = [_decoded(each) for each in text["values"]]
        self._number_of = {freeze(each): number for number, each in enumerate(self._values)}
        self._begun = [self._run(number, (), 0) for number in range(len(self.requests))]
        self._states = [
            [self._run(request, _decoded(results), phase) for request, results, phase in state]
            for state in text["states"]
        ]
        expect(self._states[IDLE] == [], "a vCPU in a call is not idle")
        self._state_of = {
            (each.request, each.phase, each.held, each.key): number
            for number, state in enumerate(self._states)
            for each in state
        }
        self._known: dict[tuple[int, int], list[tuple[Local, list[Step]]]] = {}
        self.zaps: set[tuple[int, int]] = set()

    def _run(self, request: int, results: tuple[Any, ...], phase: int) -> Local:
        found = Local(request, results, phase, *self._sent(request, results))
        if positions((results, found.key)):  # larger numbers must lead to the same place
            _, _, key = self._sent(request, far(results))
            expect(key == far(found.key), "a sequence's number is used for more than comparing")
        return found

    def _sent(self, request: int, results: tuple[Any, ...]) -> tuple[Any, frozenset[Any], Any]:
        """Run a call and send it ``results``: return its operation, the locks it holds, its key."""
        with closing(Watched(self._protocol, self._vm, self.requests[request])) as call:
            operation = call.send(None)
            held: frozenset[SharedObject] = frozenset()
            for i, result in enumerate(results, 1):
                if operation is None:
                    raise RejectedError("results go on after the end of a call")
                if is_lock(operation):
                    held |= {operation.target}
                elif is_lock(operation, "unlock"):
                    held -= {operation.target}
                operation = call.send(result, bounded=i == len(results))
            if operation is None:
                expect(not held, "a call returns while it holds a lock")
                return None, held, None
            does = (operation.target, operation.verb, freeze(operation.args), operation.order)
            try:
                return operation, held, (standing(call.steps), does)
            except UnfreezableError:  # the same results lead to the same place, too
                return operation, held, (freeze(results), does)

    def _state(self, at: Local, by: int = 0) -> int:
        """Return the state of a vCPU whose numbers are counted from ``by`` on."""
        key = (at.request, at.phase, at.held, counted_from(at.key, by))
        expect(at.operation is None or key in self._state_of, f"no state for {at.operation}")
        return IDLE if at.operation is None else self._state_of[key]

    def shift(self, state: int, by: int) -> int:
        """Return the state after another vCPU's step that shifts all numbers."""
        if not by or state == IDLE:
            return state
        after = {self._state(each, by) for each in self._states[state]}
        expect(len(after) == 1, f"state {state} is more than one after a shift")
        return after.pop()

    def steps(self, values: int, state: int) -> list[tuple[Local, list[Step]]]:
        """Return for each local state of a state its steps; it is blocked if there are none."""
        if (values, state) not in self._known:
            locals_ = self._begun if state == IDLE else self._states[state]
            found = [(each, list(self._steps(values, each))) for each in locals_]
            self._known[values, state] = found
        return self._known[values, state]

    def _steps(self, values: int, at: Local) -> Iterator[Step]:
        operation = at.operation
        assert operation is not None
        zaps = is_zap(operation)
        if zaps and at.phase != BEGINS:
            self.zaps.add(operation.args)
            begun = self._state(at._replace(phase=BEGINS))
            yield Step(values, begun, 0, operation, None, BEGINS)
            return
        before, i = self._values[values], self.number(operation.target)
        outcomes = operation.target.effect(before[i], operation, -1)
        if is_alloc(operation) and not self._fails:
            outcomes = outcomes[:1]
        alike = outcomes == operation.target.effect(before[i], operation, -2)[: len(outcomes)]
        expect(alike, f"an object knows who uses it: {operation}")
        for after, result in outcomes:
            self._check(at, operation, before[i], after, result)
            then, by = self.counted((*before[:i], after, *before[i + 1 :]))
            local = self._run(at.request, (*at.results, result), 0)
            yield Step(then, self._state(local, by), by, operation, result, ENDS if zaps else 0)

    def _check(self, at: Local, operation: Operation, before: Any, after: Any, result: Any) -> None:
        """See that a step uses what it may use, and that its object loses nothing."""
        target = operation.target
        if "unlocked access" in self._holds:
            expect(not lacks_lock(at.held, operation), f"unlocked access: {operation}")
        if "capacity" in self._holds:
            expect(target.problem(before, operation, after) is None, f"capacity: {operation}")
        numbers = positions(freeze((operation.args, result)))
        expect(isinstance(target, Sequence) or not numbers, f"a sequence's number: {operation}")

    def number(self, target: SharedObject) -> int:
        """Return the number of an object."""
        return next(i for i, each in enumerate(self.objects) if each is target)

    def counted(self, values: tuple[Any, ...]) -> tuple[int, int]:
        """Return the number of the objects' values, counted from the lowest sequence on."""
        by = min((position_of(values[i]) for i in self._sequences), default=0)
        key = freeze(renumbered(values, (-by).__add__))
        expect(by >= 0, "a sequence goes back")
        expect(key in self._number_of, f"values are missing: {values}")
        return self._number_of[key], by

    def waits(self, values: int, state: int) -> bool:
        """Say whether a vCPU may be blocked elsewhere than in the queue of a lock."""
        steps = self.steps(values, state)
        return any(not each and not is_lock(at.operation) for at, each in steps if at.operation)

    def check_again(self) -> None:
        """Run everything once more: what keeps a state elsewhere may give itself away."""
        for each in [local for found in self._known.values() for local, _ in found]:
            expect(self._run(each.request, each.results, each.phase) == each, "hidden state")


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decoded(each) for each in value)
    if isinstance(value, dict):
        return Number(value["number"]) if "number" in value else Range(*value["range"])
    return value
