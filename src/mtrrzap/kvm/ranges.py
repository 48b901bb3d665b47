"""Ranges of guest frames, and the rules that name which frames an event makes KVM zap."""

from collections.abc import Iterable, Sequence

from mtrrzap.gfn import EVERYTHING, PAGE_SHIFT, Range
from mtrrzap.kvm.lookup import disabled_type, variable_bounds, variable_ranges
from mtrrzap.x86 import msr as m
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.mtrr import Mtrrs

FIXED_AREA = Range(0, m.FIXED_END >> PAGE_SHIFT)
"""All frames that the fixed MTRRs cover: [0, 0x100)."""


def clamp(ranges: Iterable[Range], host_maxphyaddr: int) -> tuple[Range, ...]:
    """Cut ranges at the host's highest gfn, as the TDP MMU does; empty ones are dropped."""
    top = 1 << (host_maxphyaddr - PAGE_SHIFT)
    cut = (Range(r.start, min(r.end, top)) for r in ranges)
    return tuple(r for r in cut if r.start < r.end)


def of_mtrr_write(mtrrs: Mtrrs, msr: int) -> tuple[Range, ...] | None:
    """Return what ``update_mtrr`` (v6.1 to v6.10) zaps for a write, given the state *after* it.

    None: the write asks for nothing. A write to the default type always asks for everything, one to
    a variable range for the range as it now is, valid or not, one to a fixed MSR for its window.
    """
    if msr == m.DEF_TYPE:
        return (EVERYTHING,)
    if msr not in m.MTRR_MSRS or not mtrrs.enabled:
        return None
    if msr in m.FIXED_INDEX:
        fixed = m.FIXED[m.FIXED_INDEX[msr]]
        window = Range(fixed.start >> PAGE_SHIFT, fixed.end >> PAGE_SHIFT)
        return (window,) if mtrrs.fixed_enabled else None
    start, end = variable_bounds(mtrrs, (msr - m.PHYSBASE0) // 2)
    return (Range(start >> PAGE_SHIFT, end >> PAGE_SHIFT),)


def fine_grained(
    mtrrs: Mtrrs, cd_type: EptType, *, guest_has_mtrr: bool
) -> tuple[Range, ...] | None:
    """Return what patch 10 of the series zaps when CR0.CD toggles: only what may differ.

    ``cd_type`` is the EPT type while CD = 1. None: no request at all; an empty tuple: a request for
    no range, which as posted still drains the list or waits for its drain. The rule as posted does
    not look at DEF_TYPE.FE and takes each variable range by its own type, not by the effective one.
    """
    default = mtrrs.default if mtrrs.enabled else disabled_type(guest_has_mtrr=guest_has_mtrr)
    if cd_type != EptType(default):
        return (EVERYTHING,)
    if not mtrrs.enabled:
        return None
    ranges = [FIXED_AREA] if any(kind != default for kind in mtrrs.fixed_types()) else []
    ranges += [
        Range(r.start >> PAGE_SHIFT, r.end >> PAGE_SHIFT)
        for r in variable_ranges(mtrrs)
        if r.type != default
    ]
    return tuple(ranges)


def split_everything(ranges: Iterable[Range], slots: Sequence[Range]) -> tuple[Range, ...]:
    """Replace the range "everything" by its parts inside memslots (patch 11); keep the others."""
    split: list[Range] = []
    for r in ranges:
        split += slots if r == EVERYTHING else (r,)
    return tuple(split)
