"""The shared objects of one VM in use: their values, and who waits for them to change.

Every object has a queue, and a tiny lock that makes one operation indivisible. A blocked operation
is queued. The thread that makes it possible performs it for the waiter, in the order of arrival,
before it releases the tiny lock. So a spinlock is handed on like the kernel's queued spinlock,
nobody overtakes, and a waiter cannot miss a value that it waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any

from mtrrzap.protocol import Allocator, Operation, Protocol, SharedObject, Spinlock, Steps
from mtrrzap.protocol.rehearsal import rehearse
from mtrrzap.protocol.yielded import judged

Alloc = Callable[[int], bool]
"""Tells if an allocation by a vCPU succeeds."""


class ClosedError(Exception):
    """The engine was closed, or ended by an error (its cause), before the call was done."""


class Waiter:
    """One blocked operation. Subclasses say how to wait and how to ``wake``."""

    __slots__ = ("error", "operation", "result", "vcpu")

    def __init__(self, operation: Operation, vcpu: int) -> None:
        self.operation = operation
        self.vcpu = vcpu
        self.result: Any = None
        self.error: ClosedError | None = None

    def wake(self) -> None:
        """Let the owner go on: the operation was performed, or ``error`` says why never."""
        raise NotImplementedError


class SharedValue:
    """The value of one object, its tiny lock, and its queue."""

    __slots__ = ("_fair", "_lock", "_state", "_target", "_value", "_waiting")

    def __init__(self, target: SharedObject, state: VmState) -> None:
        self._target = target
        self._state = state
        self._value: Any = target.initial
        self._lock = Lock()
        self._waiting: deque[Waiter] = deque()
        self._fair = isinstance(target, Spinlock)

    def perform(
        self, operation: Operation, vcpu: int, waiter: Callable[[Operation, int], Waiter]
    ) -> Any:
        """Perform an operation and return its result; if it is blocked, return a new waiter.

        Raises ``ClosedError``.
        """
        failing = self._state.fails(operation, vcpu)
        with self._lock:
            self._state.check()
            outcomes = self._target.effect(self._value, operation, vcpu)
            if outcomes:
                after, result = outcomes[-1 if failing else 0]
                if after is not self._value:
                    self._value = after
                    if self._waiting:
                        self._hand_over()
                return result
            queued = waiter(operation, vcpu)
            self._waiting.append(queued)
        return queued

    def _hand_over(self) -> None:
        """Perform what the new value allows, for those who wait, in their order."""
        if self._fair:
            while self._waiting and self._serve(self._waiting[0]):
                self._waiting.popleft()
            return
        changed = True
        while changed:  # what one of them does may allow what an earlier one waits for
            before = self._value
            self._waiting = deque(each for each in self._waiting if not self._serve(each))
            changed = bool(self._waiting) and before != self._value

    def _serve(self, waiter: Waiter) -> bool:
        """Perform an operation for its waiter and wake it, unless it is still blocked."""
        outcomes = self._target.effect(self._value, waiter.operation, waiter.vcpu)
        if outcomes:
            self._value, waiter.result = outcomes[0]
            waiter.wake()
        return bool(outcomes)

    def close(self, make: Callable[[], ClosedError]) -> None:
        """Wake all who wait, with an error."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            waiter.error = make()
            waiter.wake()


class VmState:
    """All shared objects of one VM, and the decision whether an allocation fails."""

    def __init__(self, protocol: Protocol, alloc: Alloc | None = None) -> None:
        """Start with every object's initial value; allocations succeed unless ``alloc`` says no.

        Raises:
            UserError: if a user's protocol makes an operation and never yields it.
        """
        rehearse(protocol)
        self._alloc = alloc
        self._closed = False
        self._reason: BaseException | None = None
        self._objects = protocol.vm.objects()
        self._values = {id(each): SharedValue(each, self) for each in self._objects}

    def of(self, operation: Any, steps: Steps) -> SharedValue:
        """Return the value of an operation's object. Raises ``UserError`` if it is not one."""
        good = judged(operation, steps, self._objects)
        return self._values[id(good.target)]

    def fails(self, operation: Operation, vcpu: int) -> bool:
        """Tell if this is an allocation that is to fail."""
        if self._alloc is None or not isinstance(operation.target, Allocator):
            return False
        return not self._alloc(vcpu)

    def check(self) -> None:
        """Raise ``ClosedError`` if closed."""
        if self._closed:
            raise self._why()

    def close(self, reason: BaseException | None = None) -> None:
        """Make every operation fail from now on, also those that wait. Twice does no harm."""
        if not self._closed:
            self._reason = reason
            self._closed = True
        for each in self._values.values():
            each.close(self._why)

    def _why(self) -> ClosedError:
        error = ClosedError("closed" if self._reason is None else f"closed: {self._reason!r}")
        error.__cause__ = self._reason
        return error
