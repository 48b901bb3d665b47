"""The map that Linux made of its MTRRs (``guest.listing.linux_map``), and whether it is right."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from mtrrzap.guest.listing import KernelMap
from mtrrzap.study.both_maps import joined, one_stretch, side_by_side
from mtrrzap.x86 import physmap
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs

NAMED = 4
"""Differences that are written out."""
COMPARED = 10_000
"""Ranges that are compared; a mask with holes can make millions."""


class KernelRow(NamedTuple):
    """A stretch ``[start, end)`` in bytes; ``type`` is None where it is the default one."""

    start: int
    end: int
    type: MemType | None
    decider: str


def rows(found: KernelMap) -> Iterator[KernelRow]:
    """Yield the map with its gaps, up to the last entry's end."""
    last = 0
    for number, entry in enumerate(found.entries):
        if last < entry.start:
            yield KernelRow(last, entry.start, None, "default")
        origin = "fixed MTRRs" if number < found.fixed else "variable MTRRs"
        yield KernelRow(entry.start, entry.end, entry.type, f"entry {number}, {origin}")
        last = entry.end


def at(found: KernelMap, address: int) -> KernelRow:
    """Return the row of an address; what lies above the last entry has the default type."""
    every = list(rows(found))
    above = KernelRow(every[-1].end if every else 0, 1 << 64, None, "default")
    return next((row for row in every if row.start <= address < row.end), above)


def against(mtrrs: Mtrrs, found: KernelMap) -> str | None:
    """Compare the kernel's map with the manual's lookup of the registers that the same log lists.

    Returns one sentence, or None if the log has no entries. Where the manual defines no type, the
    kernel is free.
    """
    if not found.entries:
        return None
    if len(found.entries) < found.announced:
        missing = found.announced - len(found.entries)
        return f"the kernel's own map has been cut: {missing} entries are missing"
    different = list(islice(differences(mtrrs, found), NAMED + 1))
    if not different:
        count = len(found.entries)
        tom2 = f", given AMD's TOM2 = {found.tom2:#x}" if found.tom2 else ""
        return f"the kernel's own map, {count} entries, agrees with the manual's lookup{tom2}"
    places = "; ".join(
        f"[{d.start:#x}, {d.end:#x}) {d.kernel}, not {d.registers}" for d in different[:NAMED]
    )
    more = "; ..." if len(different) > NAMED else ""
    return f"the kernel's own map DIFFERS from the manual's lookup of the registers: {places}{more}"


class Difference(NamedTuple):
    """A stretch ``[start, end)`` in bytes that Linux's map gives another type than the manual."""

    start: int
    end: int
    kernel: MemType
    registers: MemType


def differences(mtrrs: Mtrrs, found: KernelMap) -> Iterator[Difference]:
    """Yield where Linux's map differs from the manual's lookup; neighbours are joined.

    Where the manual defines no type, the kernel is free.
    """
    return joined(_differences(mtrrs, found), one_stretch)


def _differences(mtrrs: Mtrrs, found: KernelMap) -> Iterator[Difference]:
    ours = islice(physmap.physical_map(mtrrs), COMPARED)
    above = KernelRow(found.entries[-1].end, 1 << 64, None, "default")
    for start, end, left, right in side_by_side(ours, [*rows(found), above]):
        kernel = mtrrs.default if right.type is None else right.type
        # SYSCFG.Tom2ForceMemTypeWB
        by_tom2 = kernel is MemType.WB and start >= 1 << 32 and end <= found.tom2
        if left.type not in (None, kernel) and not by_tom2 and start < end:
            yield Difference(start, end, kernel, left.type)
