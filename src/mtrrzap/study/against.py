"""A map of memory types held against where the machine has RAM and devices.

RAM that is not WB is slow; a device's memory that is WB is wrong unless the device is made for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

from mtrrzap.guest.listing.regions import Region, Use
from mtrrzap.study.both_maps import MAX_ROWS, joined, map_rows, one_stretch, side_by_side
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs


class Misfit(NamedTuple):
    """A stretch ``[start, end)`` in bytes whose type does not fit what is there."""

    start: int
    end: int
    what: str
    """``RAM is not WB`` or ``MMIO is WB``."""
    name: str
    """What the source calls the stretch."""
    sdm: MemType | None
    kvm: MemType


class Used(NamedTuple):
    """A stretch up to ``end`` with one use; None where the source lists nothing."""

    end: int
    use: Use | None
    name: str


def uses(regions: Sequence[Region], *, holes: bool) -> Iterator[Used]:
    """Yield the whole address space, ascending, by what is there: the innermost region counts.

    A device inside of a reserved region is a device; whatever lies inside of RAM is RAM. ``holes``:
    what is not listed below 4 GiB is a device's, as in e820, which lists no devices.
    """
    edges = sorted({0, 1 << 32, 1 << 64, *(e for r in regions for e in (r.start, r.end))})
    ordered = sorted(regions, key=lambda r: (r.start, -r.end))
    active: list[Region] = []
    at = 0
    for start, end in pairwise(edges):
        while at < len(ordered) and ordered[at].start <= start:
            active.append(ordered[at])
            at += 1
        active = [r for r in active if r.end > start]
        yield _used(active, end, hole=holes and start < 1 << 32)


def _used(active: Sequence[Region], end: int, *, hole: bool) -> Used:
    for use in (Use.RAM, Use.DEVICE, Use.OTHER):
        found = [r for r in active if r.use is use]
        if found:
            return Used(end, use, found[0].name if use is Use.RAM else found[-1].name)
    return Used(end, Use.DEVICE if hole else None, "not in e820" if hole else "")


def against_regions(mtrrs: Mtrrs, regions: Sequence[Region], *, holes: bool) -> list[Misfit]:
    """Return at most ``MAX_ROWS`` stretches where RAM is not WB, or a device's memory is."""
    both = side_by_side(map_rows(mtrrs), uses(regions, holes=holes))
    found = (
        Misfit(start, end, what, used.name, row.sdm, row.kvm)
        for start, end, row, used in both
        if (what := _wrong(used.use, (row.sdm, row.kvm))) and start < end
    )
    return list(islice(joined(found, one_stretch), MAX_ROWS))


def _wrong(use: Use | None, kinds: Iterable[MemType | None]) -> str:
    wb = [kind is MemType.WB for kind in kinds]
    if use is Use.RAM and not all(wb):
        return "RAM is not WB"
    return "MMIO is WB" if use is Use.DEVICE and any(wb) else ""
