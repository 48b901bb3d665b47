"""Shared objects and the VM that holds them: what every object offers to every engine."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from mtrrzap.errors import UserError
from mtrrzap.protocol.operation import ALL_GFNS, RELAXED, Operation, Order, Outcome


class SharedObject:
    """Something that several vCPUs use. It holds no value: its value lives in the engine.

    A value is immutable and hashable, and ``effect`` is pure, so an engine may copy, compare,
    intern and tabulate. ``guard`` is the lock that must be held for every operation.
    """

    name: str = "?"
    guard: Spinlock | None = None
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
        """Take the name that the VM's class gives to this object."""
        object.__setattr__(self, "name", name)

    def __setattr__(self, attribute: str, value: Any) -> None:
        """Refuse: a protocol that writes here would go behind the engine's back.

        Raises:
            UserError: always, naming the file and line of the assignment.
        """
        _refuse(f"{self.name}.{attribute}")

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
            return "an operation made by hand: use the methods of its object"
        try:
            hash(args)
        except TypeError:
            return f"{self.name}.{verb} is given {args!r}, which can change and cannot be hashed"
        owner = next(each for each in type(self).__mro__ if "effect" in vars(each))
        verbs: Mapping[str, int] = vars(owner).get("verbs", {})
        if verbs and verbs.get(verb) != len(args):
            known = ", ".join(verbs)
            return f"{self.name}.{verb} with {len(args)} arguments is no operation: {known} are"
        if self.of_ranges and len(args) == 2 and not is_range(*args):
            shown = " to ".join(map(repr, args))
            return f"{self.name}.{verb} of {shown}: no range of gfns, 0 <= start < end <= 2^52"
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


class Spinlock(SharedObject):
    """A kernel spinlock. Its value says only whether it is held; each engine knows who holds it.

    The kernel's spinlock queues its waiters. An engine for which that matters (starvation, time)
    lets a vCPU ``join`` first: then the value is the queue, whose head may take the lock.
    """

    verbs = {"lock": 0, "unlock": 0}  # noqa: RUF012
    symmetric = True  # while nobody joins

    @property
    def initial(self) -> Hashable:
        """Free, and nobody in the queue."""
        return (False, ())

    def lock(self) -> Operation:
        """``spin_lock()``: blocked while it is held."""
        return self._operation("lock")

    def unlock(self) -> Operation:
        """``spin_unlock()``."""
        return self._operation("unlock")

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:
        """Lock, unlock, or join the queue; a lock that is held, or not one's turn, is blocked."""
        held, queue = value
        if operation.verb == "join":
            return (((held, (*queue, vcpu)), None),)
        if operation.verb == "unlock":
            return (((False, queue), None),)
        if held or (queue and queue[0] != vcpu):
            return ()
        return (((True, queue[1:]), None),)

    def draw(self, value: Any) -> str:
        """Say whether it is held, and who queues for it."""
        held, queue = value
        waiting = "+" + ",".join(map(str, queue)) if queue else ""
        return f"{self.name}:{'held' if held else 'free'}{waiting}"


class _Sealed(type):
    """The class of a VM's class, which is shared by all vCPUs like the VM itself."""

    def __setattr__(cls, attribute: str, value: Any) -> None:
        """Refuse, as the VM does.

        Raises:
            UserError: always, naming the file and line of the assignment.
        """
        _refuse(f"{cls.__name__}.{attribute}")


class SharedState(metaclass=_Sealed):
    """Base class of a protocol's VM: its class attributes are the shared objects.

    >>> class Vm(SharedState):
    ...     lock = Spinlock()
    >>> Vm().objects()[0].name
    'lock'
    """

    def __setattr__(self, attribute: str, value: Any) -> None:
        """Refuse: shared state changes through yielded operations only.

        Raises:
            UserError: always, naming the file and line of the assignment.
        """
        _refuse(f"vm.{attribute}")

    @classmethod
    def objects(cls) -> tuple[SharedObject, ...]:
        """Return the shared objects in the order of their definition, base classes first."""
        found: dict[str, SharedObject] = {}
        for owner in reversed(cls.__mro__):
            mine = vars(owner).items()
            found |= {name: each for name, each in mine if isinstance(each, SharedObject)}
        return tuple(found.values())


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


def _refuse(what: str) -> None:
    frame = sys._getframe(2)
    raise UserError(
        f"a protocol sets {what} itself, behind the engine's back",
        place=f"{frame.f_code.co_filename}:{frame.f_lineno}",
        mend="yield an operation of the object instead",
    )
