"""Shared variables: the atomic, and the plain variable that a lock protects."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.protocol.operation import (
    ACQUIRE,
    FULL,
    MADE,
    RELAXED,
    RELEASE,
    Operation,
    Order,
    Outcome,
    SharedObject,
)
from mtrrzap.protocol.shared import Spinlock


class Atomic(SharedObject):
    """``atomic_t``, or a flag that is read with ``READ_ONCE()`` outside its lock."""

    symmetric = True
    start: Hashable
    verbs = {"load": 0, "store": 1, "cmpxchg": 2, "wait_until": 1}  # noqa: RUF012

    def __init__(self, initial: Hashable = 0) -> None:
        self._init(start=initial)

    @property
    def initial(self) -> Hashable:
        """What ``atomic_set()`` gave it when the VM was created."""
        return self.start

    def load(self, order: Order = RELAXED) -> Operation:
        """``atomic_read()``, or ``atomic_read_acquire()``."""
        return self._operation("load", order=order)

    def store(self, value: Hashable, order: Order = RELAXED) -> Operation:
        """``atomic_set()``, or ``atomic_set_release()``."""
        return self._operation("store", value, order=order)

    def cmpxchg(self, old: Hashable, new: Hashable, order: Order = FULL) -> Operation:
        """``atomic_cmpxchg()``: sends back what was there; stores ``new`` if that was ``old``.

        As in the kernel, without a suffix it is fully ordered if it stores, and not if it fails;
        ``RELAXED`` is ``atomic_cmpxchg_relaxed()``.
        """
        return self._operation("cmpxchg", old, new, order=order)

    def wait_until(self, value: Hashable, order: Order = RELAXED) -> Operation:
        """``while (atomic_read(…) != value) cpu_relax();``: blocked until it reads ``value``."""
        return self._operation("wait_until", value, order=order)

    def describe(self, operation: Operation) -> str:
        """Render as in C, where it is the relaxed exchange that has a suffix."""
        if operation.verb != "cmpxchg":
            return super().describe(operation)
        return self.described(operation, plain=FULL)

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        """Load, store, exchange; a wait is blocked until the value is the one awaited."""
        match operation.verb:
            case "load":
                return ((value, value),)
            case "store":
                return ((operation.args[0], None),)
            case "cmpxchg":
                old, new = operation.args
                return ((new if value == old else value, value),)
        return ((value, value),) if value == operation.args[0] else ()


class Variable(Atomic):
    """A plain variable: every access needs its lock."""

    def __init__(self, initial: Hashable, guard: Spinlock) -> None:
        """``guard`` is the lock that protects it."""
        self._init(start=initial, guard=guard)


class Number:
    """A position in a :class:`Sequence`. Only its distance from the sequence means anything.

    That is why an engine may subtract the same amount from every number of a state, and so explore
    vCPUs that ask for ever, although the numbers grow for ever. So a protocol may compare numbers
    with each other and hand them to a sequence, and nothing else: no arithmetic, no constants.
    """

    __slots__ = ("_position",)

    _position: int

    def __init__(self, position: int) -> None:
        object.__setattr__(self, "_position", position)

    def __setattr__(self, attribute: str, value: Any) -> None:
        """Refuse: a number never changes."""
        raise AttributeError(attribute)

    def __eq__(self, other: object) -> bool:
        """Compare with another number, or with None."""
        return other is not None and self._position == _number(other)

    def __lt__(self, other: Number) -> bool:
        return self._position < _number(other)

    def __le__(self, other: Number) -> bool:
        return self._position <= _number(other)

    def __gt__(self, other: Number) -> bool:
        return self._position > _number(other)

    def __ge__(self, other: Number) -> bool:
        return self._position >= _number(other)

    def __bool__(self) -> bool:
        """Refuse: 0 is a number like any other."""
        raise UserError("a Sequence's number is neither true nor false", mend=NUMBER_RULE)

    def __hash__(self) -> int:  # that of all numbers: it must not tell them apart
        return hash(Number)

    def __repr__(self) -> str:
        if MADE.get() is not None:  # a protocol asks
            raise UserError("a Sequence's number has no text", mend=NUMBER_RULE)
        return str(self._position)


def position_of(number: Number) -> int:
    """Return a number's position. For engines only: a protocol must not know it."""
    return number._position


NUMBER_RULE = "only compare it with other numbers, and pass it to a Sequence"


def _number(value: object) -> int:
    if isinstance(value, Number):
        return value._position
    raise UserError(f"expected a Sequence's number, not {value!r}", mend=NUMBER_RULE)


class Sequence(SharedObject):
    """A counter that only grows (``unsigned long``, compared as ``time_after_eq()`` compares)."""

    symmetric = True
    first: int
    verbs = {"load": 0, "advance": 0, "post": 1, "reached": 2, "wait_reached": 2}  # noqa: RUF012

    def __init__(self, initial: int, guard: Spinlock | None = None) -> None:
        """With ``guard`` it is a plain variable, without it is an atomic."""
        self._init(first=initial, guard=guard)

    @property
    def initial(self) -> Hashable:
        """The first number."""
        return Number(self.first)

    def load(self, order: Order = RELAXED) -> Operation:
        """Read the number."""
        return self._operation("load", order=order)

    def advance(self) -> Operation:
        """Add one; meant for a sequence that a lock protects. Sends back nothing."""
        return self._operation("advance")

    def post(self, number: Number, order: Order = RELEASE) -> Operation:
        """Store ``number``, which must lie ahead of the sequence."""
        _number(number)
        return self._operation("post", number, order=order)

    def reached(self, number: Number, lag: int = 0, order: Order = ACQUIRE) -> Operation:
        """Ask whether the sequence is at ``number - lag`` or beyond: sends back a bool."""
        return self._compared("reached", number, lag, order)

    def wait_reached(self, number: Number, lag: int = 0, order: Order = ACQUIRE) -> Operation:
        """Spin until the sequence is at ``number - lag`` or beyond. Once true, true for ever."""
        return self._compared("wait_reached", number, lag, order)

    def _compared(self, verb: str, number: Number, lag: int, order: Order) -> Operation:
        _number(number)
        if lag < 0:
            raise UserError(f"invalid lag {lag}", mend="use 0 or more")
        return self._operation(verb, number, lag, order=order)

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        """Load, advance, post, compare; a wait is blocked until the number is reached."""
        match operation.verb:
            case "load":
                return ((value, value),)
            case "advance":
                return ((Number(value._position + 1), None),)
            case "post":
                return ((operation.args[0], None),)
        number, lag = operation.args
        there = value._position >= number._position - lag
        if operation.verb == "reached":
            return ((value, there),)
        return ((value, None),) if there else ()
