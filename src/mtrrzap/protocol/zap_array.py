"""The review's static array: 16 entries of 8 bytes, 128 bytes a VM.

An entry is a block of gfns whose size is a power of two and whose start is a multiple of its size,
because that is what an MTRR describes. Start and size then fit in 8 bytes::

    63          58 57                                  6 5        0
    +-------------+-------------------------------------+----------+
    |      0      |        start, a gfn of 52 bits      | log2 size|
    +-------------+-------------------------------------+----------+

A range that is no such block (a KVM range with a hole in its mask, ``[0, ~0 >> 12)``) is rounded up
to the smallest block around it: more is zapped than was asked for, never less.

*Add* drops a range that one entry covers already. The review asks only for a merge when the array
is drained, where such a range disappears anyway: dropping it early zaps the same, and keeps several
vCPUs that ask for the same from filling the array.
"""

from typing import Any

from mtrrzap.protocol.operation import (
    ALL_GFNS,
    Operation,
    Outcome,
    Range,
    SharedObject,
    show_range,
)
from mtrrzap.protocol.shared import Spinlock

FIXED = Range(0, 0x100)
"""The gfns below 1 MiB, which the 88 fixed ranges cover: they share one entry, gaps or not."""

ENTRIES = 16
_ORDER_BITS = 6


def pack(start: int, end: int) -> int:
    """Pack the smallest aligned power-of-two block around ``[start, end)`` into 8 bytes."""
    order = 0
    while start >> order != end - 1 >> order:
        order += 1
    start = start >> order << order
    return start << _ORDER_BITS | order


def unpack(entry: int) -> Range:
    """Return the block of gfns that an 8-byte entry stands for."""
    start, order = entry >> _ORDER_BITS, entry & (1 << _ORDER_BITS) - 1
    return Range(start, start + (1 << order))


def merged(entries: tuple[int, ...]) -> tuple[Range, ...]:
    """Unpack sorted entries and join those that overlap or touch."""
    batch: list[Range] = []
    for start, end in map(unpack, entries):
        if batch and start <= batch[-1][1]:
            batch[-1] = Range(batch[-1].start, max(batch[-1].end, end))
        else:
            batch.append(Range(start, end))
    return tuple(batch)


class ZapArray(SharedObject):
    """At most 16 packed blocks, sorted by start; one of them is kept for the fixed MTRRs."""

    symmetric = True
    initial = ()
    entries: int
    purges: bool
    verbs = {"add": 2, "take": 0, "is_empty": 0}  # noqa: RUF012
    of_ranges = True

    def __init__(self, guard: Spinlock, entries: int = ENTRIES, *, purges: bool = True) -> None:
        """``purges=False`` drops what does not fit: for tests of *capacity* only."""
        self._init(guard=guard, entries=entries, purges=purges)

    def add(self, start: int, end: int) -> Operation:
        """Queue the range; if the array is full, purge it and queue everything instead.

        Sends back False if an entry covers the range already.
        """
        return self._operation("add", start, end)

    def take(self) -> Operation:
        """Empty the array: sends back its ranges, sorted by start, neighbours merged."""
        return self._operation("take")

    def is_empty(self) -> Operation:
        """Ask whether nothing is queued: sends back a bool."""
        return self._operation("is_empty")

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        """Add, take, or tell."""
        if operation.verb == "take":
            return (((), merged(value)),)
        if operation.verb == "is_empty":
            return ((value, not value),)
        after = self._added(value, *operation.args)
        return ((after, after != value),)

    def _added(self, value: tuple[int, ...], start: int, end: int) -> tuple[int, ...]:
        entry = pack(*FIXED) if end <= FIXED.end else pack(start, end)
        start, end = unpack(entry)
        if any(low <= start and end <= high for low, high in map(unpack, value)):
            return value
        fixed = pack(*FIXED)
        others = sum(1 for other in (*value, entry) if other != fixed)
        if others > self.entries - 1:
            return (pack(*ALL_GFNS),) if self.purges else value
        return tuple(sorted((*value, entry)))

    def problem(self, value: Any, operation: Operation, after: Any) -> str | None:
        """Say so if the array grew beyond its size, or forgot a frame that was queued."""
        if len(after) > self.entries:
            return f"{self.name} holds {len(after)} entries, {self.entries} fit"
        if operation.verb != "add":
            return None
        kept = merged(after)
        for start, end in (*merged(value), operation.args):
            if not any(low <= start and end <= high for low, high in kept):
                return f"{self.name} is full and {show_range(start, end)} is dropped"
        return None

    def draw(self, value: Any) -> str:
        """List the ranges, or how many there are if that is too long."""
        text = ",".join(show_range(*unpack(entry)) for entry in value)
        if len(text) > 16:
            text = f"{len(value)} entries"
        return f"{self.name}:{text or 'empty'}"
