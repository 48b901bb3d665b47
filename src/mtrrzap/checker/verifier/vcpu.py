"""What one vCPU can do, for the verifier: the protocol is run anew, step by step.

It trusts what a protocol is made of (``mtrrzap.protocol``: the objects, and what an operation does
to them), and that a generator whose frames hold the same goes on in the same way.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, GeneratorType, ModuleType
from typing import Any, NamedTuple

from mtrrzap.protocol import (
    Allocator,
    Mmu,
    Number,
    Operation,
    Protocol,
    Range,
    Sequence,
    SharedObject,
    SharedState,
    Spinlock,
)

IDLE = 0
"""A vCPU between two calls."""

_BY_IDENTITY = (
    SharedObject, SharedState, type, FunctionType, BuiltinFunctionType, CodeType, ModuleType, Enum,
)  # fmt: skip


class RejectedError(Exception):
    """The certificate does not prove what it says; the text says where."""


def expect(true: bool, otherwise: str) -> None:
    """Raise ``RejectedError`` unless it is true."""
    if not true:
        raise RejectedError(otherwise)


class Step(NamedTuple):
    """A step of one vCPU: values and state after it, the shift, and what it did."""

    values: int
    state: int
    shift: int
    operation: Operation
    result: Any
    phase: int
    returns: bool


class Local(NamedTuple):
    """Where a vCPU stands in a call: what it was asked and told, its operation, its locks."""

    request: int
    results: tuple[Any, ...]
    phase: int
    operation: Operation | None
    held: frozenset[SharedObject]
    key: Any


class CertifiedVcpu:
    """One of the vCPUs that a certificate is about."""

    def __init__(self, certificate: dict[str, Any], protocol: Protocol) -> None:
        self.text, self.protocol, self.vm = certificate, protocol, protocol.vm()
        self.objects = self.vm.objects()
        expect(certificate["objects"] == [each.name for each in self.objects], "other objects")
        self.requests = [tuple(Range(*part) for part in each) for each in certificate["requests"]]
        self.values = [_decoded(each) for each in certificate["values"]]
        self.number_of = {_typed(each): i for i, each in enumerate(self.values)}
        self.rows = [int(each, 16) for each in certificate["rows"]]
        self.holds = tuple(certificate["holds"])
        self.states = [
            [self.run(request, _decoded(results), phase) for request, results, phase in each]
            for each in certificate["states"]
        ]
        self.state_of = {
            (each.request, each.phase, each.held, each.key): i
            for i, members in enumerate(self.states)
            for each in members
        }
        self.zaps: set[tuple[int, int]] = set()
        self.known: dict[tuple[int, int], list[Step]] = {}
        self.moved: dict[tuple[int, int], int] = {}

    def run(self, request: int, results: tuple[Any, ...], phase: int) -> Local:
        """Run a call up to where it has been sent ``results``."""
        steps = self.protocol.call(self.vm, self.requests[request])
        held: frozenset[SharedObject] = frozenset()
        try:
            operation = next(steps)
            for result in results:
                if isinstance(operation.target, Spinlock):
                    mine = frozenset((operation.target,))
                    held = held | mine if operation.verb == "lock" else held - mine
                operation = steps.send(result)
        except StopIteration:
            expect(not held, "a call returns while it holds a lock")
            return Local(request, results, 0, None, held, None)
        key = (_frames(steps), (operation.target, operation.verb, operation.args, operation.order))
        return Local(request, results, phase, operation, held, _ranked(key))

    def state(self, local: Local) -> int:
        """Return the number of the state that a local state belongs to."""
        if local.operation is None:
            return IDLE
        found = self.state_of.get((local.request, local.phase, local.held, local.key))
        expect(found is not None, f"no state for request {local.request} at {local.operation}")
        assert found is not None
        return found

    def steps(self, values: int, state: int) -> list[Step]:
        """Return every step of a vCPU in a state, of any of its members."""
        if (values, state) not in self.known:
            begun = [self.run(i, (), 0) for i in range(len(self.requests))]
            origins = begun if state == IDLE else self.states[state]
            self.known[values, state] = [
                step for each in origins for step in self.local_steps(values, each)
            ]
        return self.known[values, state]

    def local_steps(self, values: int, at: Local) -> Iterator[Step]:
        """Yield the steps of one local state; see that none is bad by itself."""
        operation = at.operation
        assert operation is not None
        i = next(i for i, each in enumerate(self.objects) if each is operation.target)
        before = self.values[values][i]
        is_zap = isinstance(operation.target, Mmu) and operation.verb == "zap"
        if is_zap and at.phase == 0:
            self.zaps.add(operation.args)
            after = at._replace(phase=1)
            yield Step(values, self.state(after), 0, operation, None, 1, False)
            return
        outcomes = operation.target.effect(before, operation, -1)
        if isinstance(operation.target, Allocator) and not self.text["alloc-fails"]:
            outcomes = outcomes[:1]
        for value, result in outcomes:
            self.check_step(at, before, value)
            changed = (*self.values[values][:i], value, *self.values[values][i + 1 :])
            shifted, by = self.counted(changed)
            after = self.shifted_local(self.run(at.request, (*at.results, result), 0), by)
            returns = after.operation is None
            phase = 2 if is_zap else 0
            yield Step(shifted, self.state(after), by, operation, result, phase, returns)

    def check_step(self, at: Local, before: Any, after: Any) -> None:
        """See that a step uses what it may use, and that its object loses nothing."""
        operation = at.operation
        assert operation is not None
        target = operation.target
        if "unlocked access" in self.holds:
            wrong = isinstance(target, Spinlock) and operation.verb == "unlock"
            needed = target if wrong else target.guard
            expect(needed is None or needed in at.held, f"unlocked access: {operation}")
        if "capacity" in self.holds:
            expect(target.problem(before, operation, after) is None, f"capacity: {operation}")

    def counted(self, values: tuple[Any, ...]) -> tuple[int, int]:
        """Return the number of values, counted from the lowest sequence, and by how much."""
        at = [i for i, each in enumerate(self.objects) if isinstance(each, Sequence)]
        by = min((values[i].position for i in at), default=0)
        expect(by >= 0, "a sequence goes back")
        values = tuple(
            Number(each.position - by) if i in at else each for i, each in enumerate(values)
        )
        found = self.number_of.get(_typed(values))
        expect(found is not None, f"values are missing: {values}")
        assert found is not None
        return found, by

    def shifted_local(self, local: Local, by: int) -> Local:
        """Count a local state's numbers from ``by`` on; those behind keep only their order."""
        if not by or local.operation is None:
            return local
        numbers = {each.position for each in local.results if isinstance(each, Number)}
        behind = sorted(each for each in numbers if each < by)
        new = {n: behind.index(n) - len(behind) if n < by else n - by for n in numbers}
        results = tuple(
            Number(new[each.position]) if isinstance(each, Number) else each
            for each in local.results
        )
        after = self.run(local.request, results, local.phase)
        expect(_blank(after.key) == _blank(local.key), "numbers are used for more than comparing")
        return after

    def shift(self, state: int, by: int) -> int:
        """Return the state in which a vCPU is after the numbers are counted from ``by`` on."""
        if not by or state == IDLE:
            return state
        if (state, by) not in self.moved:
            after = {self.state(self.shifted_local(each, by)) for each in self.states[state]}
            expect(len(after) == 1, f"state {state} is more than one after a shift")
            self.moved[state, by] = after.pop()
        return self.moved[state, by]


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decoded(each) for each in value)
    if isinstance(value, dict):
        return Number(value["number"]) if "number" in value else Range(*value["range"])
    return value


def _typed(value: Any) -> Any:
    """Return a value that differs where the types differ: 0 is not False."""
    if isinstance(value, tuple):
        return tuple(_typed(each) for each in value)
    return (type(value), value)


def _frames(steps: Any) -> Any:
    """Return what the frames of a generator hold: it goes on alike wherever this is equal."""
    found, seen = [], {}  # type: ignore[var-annotated]
    while isinstance(steps, GeneratorType):
        frame, inner = steps.gi_frame, steps.gi_yieldfrom
        assert frame is not None
        names = frame.f_locals
        apart = (id(frame), id(names), id(inner) if isinstance(inner, GeneratorType) else 0)
        held = [each for each in gc.get_referents(steps) if id(each) not in apart]
        pictures = tuple(_picture(each, seen) for each in held)
        found.append((frame.f_code, frame.f_lasti, tuple(names), pictures))
        steps = inner
    return tuple(found)


def _picture(value: Any, seen: dict[int, tuple[int, Any]]) -> Any:
    """Return a value that is equal for what behaves alike; a list that is shared is one list."""
    if isinstance(value, _BY_IDENTITY):
        return ("is", id(value))
    if type(value) in (bool, int, str, range, Number, type(None)):
        return (type(value), value)
    if type(value) in (tuple, Range):
        return (type(value), *(_picture(each, seen) for each in value))
    if id(value) in seen:
        return ("again", seen[id(value)][0])
    seen[id(value)] = (len(seen), value)
    if type(value) is list:
        return (list, tuple(_picture(each, seen) for each in value))
    if hasattr(type(value), "__next__") and type(value).__module__ == "builtins":
        return (type(value), _picture(value.__reduce__()[1:], seen))
    raise RejectedError(f"a protocol that keeps a {type(value).__name__} cannot be verified")


def _blank(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(_blank(each) for each in key)
    return Number if isinstance(key, Number) else key


def _ranked(key: Any) -> Any:
    """Return a key with the numbers behind all sequences renamed: only their order matters."""
    behind = sorted(_behind(key))
    names = {position: i - len(behind) for i, position in enumerate(behind)}

    def renamed(part: Any) -> Any:
        if isinstance(part, Number):
            return Number(names.get(part.position, part.position))
        return tuple(map(renamed, part)) if isinstance(part, tuple) else part

    return renamed(key)


def _behind(key: Any) -> set[int]:
    if isinstance(key, tuple):
        return {position for part in key for position in _behind(part)}
    return {key.position} if isinstance(key, Number) and key.position < 0 else set()
