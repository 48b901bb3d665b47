"""The list of ranges of patch 9: ``kvm->arch.mtrr_zap_list``."""

from typing import Any

from mtrrzap.protocol.operation import Operation, Outcome, Range, SharedObject, show_range
from mtrrzap.protocol.shared import Spinlock


class ZapList(SharedObject):
    """A list of ranges, ordered by length ascending, then by start descending.

    Long ranges are taken late and so have more time to be found duplicated; a range that is queued
    already, with the same start and end, is dropped.
    """

    verbs = {"add": 2, "pop_first": 0, "clear": 0}  # noqa: RUF012
    of_ranges = True
    symmetric = True
    initial = ()

    def __init__(self, guard: Spinlock) -> None:
        self._init(guard=guard)

    def add(self, start: int, end: int) -> Operation:
        """Walk the list and insert the range in order: sends back False if it was there already."""
        return self._operation("add", start, end)

    def pop_first(self) -> Operation:
        """Take the first range off: sends back the range, or None if the list is empty."""
        return self._operation("pop_first")

    def clear(self) -> Operation:
        """Free every entry, also those of other vCPUs."""
        return self._operation("clear")

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        """Add, take the first, or clear."""
        match operation.verb:
            case "add":
                entry = Range(*operation.args)
                if entry in value:
                    return ((value, False),)
                return ((tuple(sorted((*value, entry), key=_rank)), True),)
            case "pop_first":
                return ((value[1:], value[0]),) if value else ((value, None),)
        return (((), None),)

    def draw(self, value: Any) -> str:
        """List the ranges, or how many there are if that is too long."""
        text = ",".join(show_range(*entry) for entry in value)
        if len(text) > 16:
            text = f"{len(value)} ranges"
        return f"{self.name}:{text or 'empty'}"


def _rank(entry: Range) -> tuple[int, int]:
    start, end = entry
    return end - start, -start
