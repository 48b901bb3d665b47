"""Whether KVM lets one huge page cover a range: are the guest's MTRRs the same all over it?

``kvm_mtrr_check_gfn_range_consistency`` in arch/x86/kvm/mtrr.c, v6.1 to v6.10; asked by
``kvm_tdp_page_fault`` for 1 GiB, then for 2 MiB. CR0.CD is not looked at, even though it may decide
the entry's type.

Two oddities, both on the safe side (a smaller page than need be):

- The walk notes a gap whenever a range starts behind the furthest end seen so far, as if ranges
  came in ascending order; KVM's list is descending. Two neighbours of one type look like a gap.
- Where the fixed MTRRs give out at 1 MiB, the variable ranges are walked for the whole range again,
  also for the part that the fixed ones have just decided.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from mtrrzap.kvm.lookup import VariableRange, variable_ranges
from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs


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

    A range that holds none of them in its inside has the answer of every other such range between
    the same two neighbours of this set.
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
