"""KVM's own reading of the guest's MTRRs, where it differs from the manual's.

``kvm_mtrr_get_guest_memory_type`` and ``var_mtrr_range`` in arch/x86/kvm/mtrr.c, v6.1 to v6.10
(removed by the guest-MTRR removal series in v6.11). The manual's lookup is ``mtrrzap.x86.physmap``.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs
from mtrrzap.x86.physmap import Segment, fixed_decider

_U64 = (1 << 64) - 1
_PAGE = 0xFFF


class VariableRange(NamedTuple):
    """A valid variable range as KVM sees it: one contiguous stretch, in bytes."""

    start: int
    end: int
    type: MemType
    number: int


def variable_bounds(mtrrs: Mtrrs, index: int) -> tuple[int, int]:
    """Return ``(start, end)``, in bytes, that KVM computes for a variable range, valid or not.

    KVM starts at the base as written (the manual aligns it down to the size), takes a mask with
    holes for a contiguous superset, and sets the bits from MAXPHYADDR up when the mask is written.
    A mask that was never written leaves ``end`` at 0 by overflow: such a range is empty.
    """
    mask = mtrrs.masks[index]
    stored = 0 if mask is None else mask | (_U64 >> mtrrs.maxphyaddr << mtrrs.maxphyaddr)
    start = mtrrs.bases[index] & ~_PAGE
    end = ((start | (~(stored & ~_PAGE) & _U64)) + 1) & _U64
    return start, end


def variable_ranges(mtrrs: Mtrrs) -> list[VariableRange]:
    """Return the valid ranges in the order of KVM's list: descending by the raw base register."""
    found = [
        (mtrrs.bases[index], VariableRange(*bounds, mtrrs.variable_type(index), index))
        for index in range(m.VCNT)
        if mtrrs.valid(index) and (bounds := variable_bounds(mtrrs, index))
    ]
    found.sort(key=lambda item: item[0], reverse=True)
    return [item[1] for item in found]


def disabled_type(*, guest_has_mtrr: bool) -> MemType:
    """Return the type of all of memory while DEF_TYPE.E is clear (``mtrr_disabled_type``)."""
    return MemType.UC if guest_has_mtrr else MemType.WB


def lookup(mtrrs: Mtrrs, address: int, *, guest_has_mtrr: bool = True) -> MemType:
    """Return the type that KVM gives the 4-KiB page at ``address``. CR0.CD is not looked at."""
    ranges = variable_ranges(mtrrs)
    return type_in(mtrrs, ranges, address & ~_PAGE, guest_has_mtrr=guest_has_mtrr)


def type_in(
    mtrrs: Mtrrs, ranges: Sequence[VariableRange], page: int, *, guest_has_mtrr: bool
) -> MemType:
    """Do ``lookup`` for callers that ask often: ``ranges`` is ``variable_ranges(mtrrs)``."""
    return _lookup(mtrrs, ranges, page, guest_has_mtrr)[0]


def _lookup(
    mtrrs: Mtrrs, ranges: Sequence[VariableRange], page: int, guest_has_mtrr: bool
) -> tuple[MemType, tuple[str, ...]]:
    if not mtrrs.enabled:
        return disabled_type(guest_has_mtrr=guest_has_mtrr), ("E=0",)
    if page < m.FIXED_END and mtrrs.fixed_enabled:
        position, byte, name = fixed_decider(page)
        return MemType(mtrrs.fixed[position] >> 8 * byte & 0xFF), (name,)
    hits = [r for r in ranges if r.start <= page < r.end]
    if not hits:
        return mtrrs.default, ("default",)
    return _combine([hit.type for hit in hits]), tuple(f"PHYS{hit.number}" for hit in hits)


def _combine(types: Sequence[MemType]) -> MemType:
    """Combine overlapping ranges in list order. UC wins only if it does not come first."""
    through = {MemType.WT, MemType.WB}
    result = types[0]
    for kind in types[1:]:
        if kind is result:
            continue
        if kind is MemType.UC:
            return MemType.UC
        if {kind, result} != through:
            return MemType.WB
        result = MemType.WT
    return result


def physical_map(mtrrs: Mtrrs, *, guest_has_mtrr: bool = True) -> Iterator[Segment]:
    """Yield KVM's view of the whole map, ascending, 0 to 2^MAXPHYADDR; neighbours differ."""
    top = 1 << mtrrs.maxphyaddr
    ranges = variable_ranges(mtrrs)
    edges = {0}
    if mtrrs.enabled:
        edges.update(edge for r in ranges for edge in (r.start, r.end) if edge < top)
        if mtrrs.fixed_enabled:
            edges.update(f.start + i * f.step for f in m.FIXED for i in range(8))
            edges.add(m.FIXED_END)
    start, found = 0, _lookup(mtrrs, ranges, 0, guest_has_mtrr)
    for edge in sorted(edges)[1:]:
        here = _lookup(mtrrs, ranges, edge, guest_has_mtrr)
        if here != found:
            yield Segment(start, edge, *found)
            start, found = edge, here
    yield Segment(start, top, *found)
