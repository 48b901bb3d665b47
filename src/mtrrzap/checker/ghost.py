"""Ghost state: what a property remembers of the past, kept beside the shared objects.

A ghost is an object like the others: immutable hashable values and one pure function. It belongs to
the property that needs it; the search knows only its values' numbers.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol

from mtrrzap.protocol import Operation


class GhostStep(NamedTuple):
    """What one transition did, as far as a ghost may care."""

    operation: Operation
    """With a zap as ``zap_begin`` or ``zap_end``."""
    result: Any
    call: tuple[tuple[int, int], ...] | None
    """The ranges, if this is the first step of a call."""
    returns: bool


class Ghost(Protocol):
    """What the search needs of a ghost."""

    def initial(self) -> Hashable:
        """Return the value before any vCPU runs."""

    def event(self, step: GhostStep) -> Hashable:
        """Return what of ``step`` matters, or None if it changes nothing."""

    def after(self, value: Any, event: Any, vcpu: int) -> tuple[Hashable, int]:
        """Return the value after ``vcpu`` made a step with ``event``, and the flags it raises."""

    def key(self, value: Any, vcpu: int) -> int:
        """Return a number for ``vcpu``'s share that does not depend on how others are numbered."""

    def swapped(self, value: Any, vcpu: int) -> Hashable:
        """Return ``value`` with the vCPUs ``vcpu`` and ``vcpu + 1`` exchanged."""


class NoGhost:
    """Remembers nothing."""

    def initial(self) -> Hashable:
        """Return the only value."""
        return ()

    def event(self, step: GhostStep) -> Hashable:  # noqa: ARG002
        """Nothing matters."""
        return None

    def after(self, value: Any, event: Any, vcpu: int) -> tuple[Hashable, int]:  # noqa: ARG002
        """Never called: there are no events."""
        return value, 0

    def key(self, value: Any, vcpu: int) -> int:  # noqa: ARG002
        """All vCPUs are alike."""
        return 0

    def swapped(self, value: Any, vcpu: int) -> Hashable:  # noqa: ARG002
        """All vCPUs are alike."""
        result: Hashable = value
        return result
