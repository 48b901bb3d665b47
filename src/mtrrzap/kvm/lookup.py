"""How KVM reads the guest's MTRRs, where it differs from the manual (``mtrrzap.x86.physmap``).

arch/x86/kvm/mtrr.c, v6.1 to v6.10 (removed in v6.11 with the guest-MTRR code): ``var_mtrr_range``,
``kvm_mtrr_get_guest_memory_type``, and ``kvm_mtrr_check_gfn_range_consistency``. The last one tells
``kvm_tdp_page_fault`` if one huge page may cover a range, for 1 GiB first and then for 2 MiB. It
does not look at CR0.CD, even though CD may decide the type of the entry.

The consistency check has two oddities. Both are safe: they make a page smaller than necessary.

- It notes a gap whenever a range starts behind the furthest end seen so far, as if ranges came in
  ascending order. KVM's list is descending, so two neighbours of one type look like a gap.
- Where the fixed MTRRs end at 1 MiB, it walks the variable ranges for the whole range again, also
  for the part that the fixed ones have just decided.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs
from mtrrzap.x86.physmap import MapSegment, fixed_decider, stretches

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
        for index in range(mtrrs.vcnt)
        if mtrrs.valid(index) and (bounds := variable_bounds(mtrrs, index))
    ]
    found.sort(key=lambda item: item[0], reverse=True)
    return [item[1] for item in found]


def disabled_type(*, guest_has_mtrr: bool) -> MemType:
    """Return the type of all of memory while DEF_TYPE.E is clear (``mtrr_disabled_type``)."""
    return MemType.UC if guest_has_mtrr else MemType.WB


def lookup(mtrrs: Mtrrs, address: int, *, guest_has_mtrr: bool = True) -> MemType:
    """Return the type that KVM gives the 4-KiB page at ``address``. CR0.CD is not looked at."""
    page, ranges = address & ~_PAGE, variable_ranges(mtrrs)
    return decided(mtrrs, ranges, page, guest_has_mtrr=guest_has_mtrr)[0]


def decided(
    mtrrs: Mtrrs, ranges: Sequence[VariableRange], page: int, *, guest_has_mtrr: bool = True
) -> tuple[MemType, tuple[str, ...]]:
    """Return a page's type and the registers that decide it; ``ranges``: ``variable_ranges``."""
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


def physical_map(mtrrs: Mtrrs, *, guest_has_mtrr: bool = True) -> Iterator[MapSegment]:
    """Yield KVM's view of the whole map, ascending, 0 to 2^MAXPHYADDR; neighbours differ."""
    top = 1 << mtrrs.maxphyaddr
    ranges = variable_ranges(mtrrs)
    edges = set[int]()
    if mtrrs.enabled:
        edges.update(edge for r in ranges for edge in (r.start, r.end) if edge < top)
        if mtrrs.fixed_enabled:
            edges.update(f.start + i * f.step for f in m.FIXED for i in range(8))
            edges.add(m.FIXED_END)

    at = partial(decided, mtrrs, ranges, guest_has_mtrr=guest_has_mtrr)
    for start, end, found in stretches(sorted(edges), at, top):
        yield MapSegment(start, end, *found)


def consistent(
    mtrrs: Mtrrs, start: int, end: int, ranges: Sequence[VariableRange] | None = None
) -> bool:
    """Tell if KVM finds one memory type all over ``[start, end)``, in bytes.

    ``ranges`` is ``variable_ranges(mtrrs)``, for callers that ask often.
    """
    if not mtrrs.enabled:
        return True
    found: set[MemType] = set()
    if mtrrs.fixed_enabled and start < m.FIXED_END:
        found.update(_fixed(mtrrs, start, end))
        if end <= m.FIXED_END:
            return len(found) == 1
    gap = False
    covered = start
    for r in variable_ranges(mtrrs) if ranges is None else ranges:
        if r.start < end and r.end > start:
            found.add(r.type)
            gap |= covered < r.start
            covered = max(covered, r.end)
    if len(found) > 1:
        return False
    return not found or not (gap or covered < end) or found == {mtrrs.default}


def _fixed(mtrrs: Mtrrs, start: int, end: int) -> Iterator[MemType]:
    for fixed, value in zip(m.FIXED, mtrrs.fixed, strict=True):
        if fixed.start < end and fixed.end > start:
            first = max(0, (start - fixed.start) // fixed.step)
            last = min(8, -((fixed.start - end) // fixed.step))
            yield from (MemType(byte) for byte in value.to_bytes(8, "little")[first:last])


def edges(mtrrs: Mtrrs) -> set[int]:
    """Return the addresses, in bytes, at which the answer or the memory type may change.

    All ranges that lie between the same two neighbours of this set have the same answer.
    """
    if not mtrrs.enabled:
        return set()
    found = {edge for r in variable_ranges(mtrrs) for edge in (r.start, r.end)}
    if mtrrs.fixed_enabled:
        found.add(m.FIXED_END)
        found.update(_fixed_edges(mtrrs.fixed))
    return found


@lru_cache(maxsize=64)
def _fixed_edges(fixed: tuple[int, ...]) -> tuple[int, ...]:
    """Return where the types of neighbouring fixed sub-ranges differ."""
    types = b"".join(value.to_bytes(8, "little") for value in fixed)
    starts = [f.start + i * f.step for f in m.FIXED for i in range(8)]
    return tuple(starts[n] for n in range(1, len(types)) if types[n] != types[n - 1])
