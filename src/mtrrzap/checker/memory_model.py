"""A vCPU's local state, and what it may do there under each memory model.

``sc``: every operation takes effect at once. ``tso``: x86's total store order. A plain store, and
the store that releases a spinlock, wait in the vCPU's own FIFO buffer and become visible by a step
of their own (*flush*); the vCPU itself reads its latest buffered store. Locked instructions
(``cmpxchg``, taking a lock, an operation of a user's own object) and a zap, which takes
``mmu_lock``, wait until the buffer is empty.

What a lock guards is accessed directly: its stores leave the buffer before the store that releases
the lock, so whoever takes the lock next sees them all.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from mtrrzap.checker.automaton import Place
from mtrrzap.checker.operations import drains, is_buffered
from mtrrzap.protocol import Operation, SharedObject
from mtrrzap.protocol.meaning import is_alloc

BUFFER = 8
"""Stores that one vCPU may have pending. With none left, the next store waits, as on hardware."""


class LocalState(NamedTuple):
    """Everything about one vCPU that decides what it may do next.

    ``phase`` is 1 between the two halves of an operation that takes two steps (a zap; a lock that
    one queues for). ``buffer`` holds the stores that x86-TSO has not made visible yet.
    """

    group: int
    request: int
    place: Place | None
    """None when the vCPU has made all its requests."""
    held: frozenset[SharedObject]
    phase: int
    buffer: tuple[Operation, ...]

    def key(self) -> Hashable:
        """Return what makes two local states the same."""
        place = None if self.place is None else self.place.key
        return (
            self.group, self.request, place, self.calling, self.held, self.phase, self.buffer,
        )  # fmt: skip

    @property
    def calling(self) -> bool:
        """Whether the next step is the first of a call; a loop back to that place is not."""
        return self.place is not None and not self.place.results and self.phase == 0


class Alternative(NamedTuple):
    """One thing that a vCPU may do in a local state: ``operation`` with its ``choice``-th outcome.

    ``flush`` says that it is no step of the protocol: the oldest buffered store becomes visible.
    ``seen`` is the value that the vCPU reads from its own buffer instead of the object's.
    """

    target: int
    operation: Operation
    choice: int
    flush: bool = False
    seen: tuple[Hashable, ...] = ()


class MemoryModel:
    """The alternatives of local states, for one list of objects and one memory model."""

    def __init__(self, objects: tuple[SharedObject, ...], model: str, *, alloc_fails: bool) -> None:
        """``model`` is ``sc`` or ``tso``."""
        self._index = {id(known): i for i, known in enumerate(objects)}
        self._nothing = len(objects)
        self._tso = model == "tso"
        self._alloc_fails = alloc_fails

    def alternatives(
        self, local: LocalState, operation: Operation | None
    ) -> tuple[Alternative, ...]:
        """List what the vCPU may do: its next ``operation`` (None: no more), or a flush."""
        found: list[Alternative] = []
        if operation is not None:
            found += self._steps(local, operation)
        if local.buffer:
            oldest = local.buffer[0]
            found.append(Alternative(self._index[id(oldest.target)], oldest, 0, flush=True))
        return tuple(found)

    def _steps(self, local: LocalState, operation: Operation) -> list[Alternative]:
        target = self._index[id(operation.target)]
        if self._tso and is_buffered(operation):
            return [Alternative(self._nothing, operation, 0)] if len(local.buffer) < BUFFER else []
        if local.buffer and drains(operation):
            return []
        seen = self._forwarded(local, operation)
        if seen:
            return [Alternative(self._nothing, operation, 0, seen=seen)]
        choices = operation.target.choices(operation)
        if is_alloc(operation) and not self._alloc_fails:
            choices = 1
        return [Alternative(target, operation, choice) for choice in range(choices)]

    def _forwarded(self, local: LocalState, operation: Operation) -> tuple[Hashable, ...]:
        value: Any = None
        found = False
        for store in local.buffer:
            if store.target is operation.target:
                value = store.target.effect(value, store, local.group)[0][0]
                found = True
        return (value,) if found else ()
