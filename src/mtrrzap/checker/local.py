"""A vCPU's local state: where its protocol stands, which locks it holds, what it has buffered."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from mtrrzap.checker.automaton import Place
from mtrrzap.protocol import Operation, SharedObject


class Local(NamedTuple):
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
