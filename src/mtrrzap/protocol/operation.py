"""What a protocol yields, and what it yields it about: operations and shared objects.

An operation describes one step on one shared object. It never is the step itself: each engine
(checker, simulator, threads) performs it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Hashable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import CodeType, FrameType
from typing import Any, ClassVar, NamedTuple

from mtrrzap.errors import UserError

# Part of the vocabulary: protocols import both from here.
from mtrrzap.gfn import ALL_GFNS as ALL_GFNS
from mtrrzap.gfn import Range as Range


class Order(Enum):
    """The memory order a step declares, with the meaning of the kernel's ``_acquire``/``_release``.

    ``RELAXED`` is a plain atomic access: ``atomic_read()``, ``READ_ONCE()``, ``atomic_set()``.
    ``FULL`` is a full barrier before and after: a bare ``atomic_cmpxchg()`` that succeeds.
    """

    RELAXED = "relaxed"
    ACQUIRE = "acquire"
    RELEASE = "release"
    FULL = "full"


RELAXED = Order.RELAXED
ACQUIRE = Order.ACQUIRE
RELEASE = Order.RELEASE
FULL = Order.FULL


@dataclass(frozen=True, slots=True)
class Operation:
    """One step: what (``verb`` and ``args``) on which object, with which declared order."""

    target: SharedObject
    verb: str
    args: tuple[Any, ...] = ()
    order: Order = RELAXED

    def __post_init__(self) -> None:
        made = MADE.get()
        if made is not None:
            made.append(Made(self, *_maker(type(self.target))))

    def __str__(self) -> str:
        return self.target.describe(self)


class Made(NamedTuple):
    """An operation, and where in the protocol it is made."""

    operation: Operation
    code: CodeType
    line: int

    @property
    def place(self) -> str:
        """The ``file:line``."""
        return f"{self.code.co_filename}:{self.line}"


MADE: ContextVar[list[Made] | None] = ContextVar("MADE", default=None)
"""Where the operations are noted that a call makes while somebody watches it; see ``watched``."""


def _maker(kind: type) -> tuple[CodeType, int]:
    """Return what asked an object for the operation that is just made, past its own methods."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None and _is_method(frame.f_code, kind):
        frame = frame.f_back
    assert frame is not None  # no method is the outermost frame
    return frame.f_code, frame.f_lineno


@cache
def _is_method(code: CodeType, kind: type) -> bool:
    found = (vars(owner).get(code.co_name) for owner in kind.__mro__)
    return any(getattr(each, "__code__", None) is code for each in found)


Outcome = tuple[Hashable, Any]
"""``(value', result)``: the object's next value and what the protocol is sent."""

Steps = Generator[Operation, Any, None]
"""What a protocol function returns: it yields operations and is sent their results."""


class SharedObject:
    """Something that several vCPUs use. It holds no value: its value lives in the engine.

    A value is immutable and hashable, and ``effect`` is pure, so an engine may copy, compare,
    intern and tabulate. ``guard`` is the lock that must be held for every operation.
    """

    name: str = "?"
    guard: SharedObject | None = None
    verbs: ClassVar[Mapping[str, int]] = {}
    """What a protocol may yield, with the number of arguments; a class without takes anything."""
    of_ranges: ClassVar[bool] = False
    """Whether two arguments are always a range of gfns."""
    symmetric: bool = False
    """Whether ``effect`` never looks at ``vcpu``: then vCPUs that ask for the same are alike.

    It speaks for the ``effect`` of the class that says it, not for one that a subclass defines.
    """

    @classmethod
    def is_symmetric(cls) -> bool:
        """Say whether this class's ``effect`` treats all vCPUs alike."""
        for owner in cls.__mro__:
            if "symmetric" in vars(owner):
                return bool(vars(owner)["symmetric"])
            if "effect" in vars(owner):
                return False
        return False

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)

    def __setattr__(self, attribute: str, value: Any) -> None:
        """Refuse: a value changes by yielded operations only.

        Raises:
            UserError: always, naming the file and line of the assignment.
        """
        refuse_to_set(f"{self.name}.{attribute}")

    def __bool__(self) -> bool:
        """Refuse: its value is in the engine."""
        frame = sys._getframe(1)
        raise UserError(
            f"{self.name} is the object, not its value",
            place=f"{frame.f_code.co_filename}:{frame.f_lineno}",
            mend="yield an operation of it",
        )

    def _init(self, **attributes: Any) -> None:
        for key, value in attributes.items():
            object.__setattr__(self, key, value)

    @property
    def initial(self) -> Hashable:
        """The value before any vCPU runs."""
        raise NotImplementedError

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:
        """Say what ``operation`` by ``vcpu`` does to ``value``: every outcome it may have.

        Nearly every operation has exactly one outcome; an allocation that may fail has two; an
        operation that has none is blocked until the value changes.
        """
        raise NotImplementedError

    def choices(self, operation: Operation) -> int:  # noqa: ARG002 - objects with a choice use it
        """Return the largest number of outcomes that ``operation`` has on any value."""
        return 1

    def refuses(self, operation: Operation) -> str | None:
        """Say what is wrong with an operation as a protocol yields it, if something is."""
        verb, args = operation.verb, operation.args
        if not isinstance(args, tuple) or not isinstance(operation.order, Order):
            return f"{self.name}: invalid operation; use the methods of the object"
        try:
            hash(args)
        except TypeError:
            return f"{self.name}.{verb} takes {args!r}, which is mutable; pass hashable values"
        owner = next(each for each in type(self).__mro__ if "effect" in vars(each))
        verbs: Mapping[str, int] = vars(owner).get("verbs", {})
        if verbs and verbs.get(verb) != len(args):
            if verb in verbs:
                return f"{self.name}.{verb} takes {verbs[verb]} arguments, not {len(args)}"
            return f"unknown operation {self.name}.{verb}; use {' or '.join(verbs)}"
        if self.of_ranges and len(args) == 2 and not is_range(*args):
            shown = " to ".join(map(repr, args))
            return f"{self.name}.{verb} of {shown}: invalid range; use 0 <= start < end <= 2^52"
        return None

    def problem(self, value: Any, operation: Operation, after: Any) -> str | None:  # noqa: ARG002
        """Say what this step loses that it must not lose (see *capacity*), if it does."""
        return None

    def draw(self, value: Any) -> str:
        """Render ``value`` for the margin of a counterexample: at most some 20 characters."""
        return f"{self.name}={value}"

    def describe(self, operation: Operation) -> str:
        """Render ``operation``, with its order where that says something."""
        return self.described(operation)

    def described(self, operation: Operation, plain: Order = RELAXED) -> str:
        """Render ``operation``, where ``plain`` is the order that goes without saying."""
        inside = ", ".join(_argument(argument) for argument in operation.args)
        order = "" if operation.order is plain else f"_{operation.order.value}"
        return f"{self.name}.{operation.verb}{order}({inside})"

    def _operation(self, verb: str, *args: Hashable, order: Order = RELAXED) -> Operation:
        return Operation(self, verb, args, order)


def _argument(argument: Hashable) -> str:
    if isinstance(argument, int) and not isinstance(argument, bool) and argument > 9:
        return "~0" if argument == 1 << 52 else f"{argument:#x}"
    return str(argument)


def is_range(start: Any, end: Any) -> bool:
    """Say whether ``[start, end)`` is a range of gfns with at least one frame in it."""
    numbers = isinstance(start, int) and isinstance(end, int)
    return numbers and 0 <= start < end <= ALL_GFNS.end


def show_range(start: int, end: int) -> str:
    """Render a range of gfns: ``[0,~0)`` for everything, hexadecimal otherwise."""
    return f"[{_argument(start)},{_argument(end)})"


def refuse_to_set(what: str) -> None:
    """Raise ``UserError`` with the file and line of the assignment, two frames up."""
    frame = sys._getframe(2)
    raise UserError(
        f"a protocol must not set {what} itself",
        place=f"{frame.f_code.co_filename}:{frame.f_lineno}",
        mend="yield an operation of the object instead",
    )
