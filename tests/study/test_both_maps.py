"""Judging memory maps: the overlaps of KVM's tables, and the manual's rules."""

from itertools import pairwise

import pytest
from hypothesis import given

from helpers.strategies import mtrrs as mtrr_states
from mtrrzap.study import both_maps as report
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs

G = 1 << 30


def state(*ranges: tuple[int, int, MemType], def_type: int = 0x800, width: int = 36) -> Mtrrs:
    """Return MTRRs with variable ranges (base, size, type)."""
    mtrrs = Mtrrs(width).write(0x2FF, def_type)
    for index, (base, size, kind) in enumerate(ranges):
        mtrrs = mtrrs.write(0x200 + 2 * index, base | kind)
        mtrrs = mtrrs.write(0x201 + 2 * index, ((1 << width) - size) | 0x800)
    return mtrrs


WB, UC, WC, WT = MemType.WB, MemType.UC, MemType.WC, MemType.WT


@pytest.mark.parametrize(
    ("ranges", "address", "types", "verdict"),
    [
        ([(0, 4 * G, WB)], G, (WB, WB), ""),
        ([(0, 4 * G, WB), (3 * G, G, UC)], 3 * G, (UC, WB), "overlap, KVM-specific: the order"),
        ([(0, 2 * G, UC), (G, G, WB)], G, (UC, UC), "overlap, architectural: UC wins"),
        ([(0, 4 * G, WB), (3 * G, G, WT)], 3 * G, (WT, WT), "overlap, architectural: WT wins"),
        ([(0, 4 * G, WB), (3 * G, G, WC)], 3 * G, (None, WB), "overlap, undefined by the manual"),
        ([(1 << 20, 4 << 20, WB)], 0, (WB, UC), "KVM-specific: a base or mask that KVM reads"),
        ([(0, G, WB), (1 << 20, 4 << 20, WB)], 0, (WB, WB), "overlap in one reading only"),
    ],
)
def test_verdicts(
    ranges: list[tuple[int, int, MemType]],
    address: int,
    types: tuple[MemType | None, MemType],
    verdict: str,
) -> None:
    row = report.at(state(*ranges), address)
    assert (row.sdm, row.kvm) == types
    assert row.verdict.startswith(verdict)
    assert bool(row.verdict) == bool(verdict)


@given(mtrr_states())
def test_rows_agree_with_single_lookups(mtrrs: Mtrrs) -> None:
    rows, whole = report.table(mtrrs)
    assert rows[0].start == 0
    if whole:
        assert rows[-1].end == 1 << mtrrs.maxphyaddr
    for left, right in pairwise(rows):
        assert left.end == right.start
    for row in rows[:20]:
        for address in (row.start, row.end - 4096):
            found = report.at(mtrrs, address)
            assert (found.sdm, found.kvm, found.verdict) == (row.sdm, row.kvm, row.verdict)


@given(mtrr_states(), mtrr_states())
def test_map_differences(left: Mtrrs, right: Mtrrs) -> None:
    assert list(report.map_differences(left, left)) == []
    assert report.differences(left, left) == []
    for number, found in enumerate(report.map_differences(left, right)):
        one, two = report.at(left, found.start), report.at(right, found.start)
        assert (one[2:4], two[2:4]) == (found.left, found.right)
        assert found.left != found.right
        if number > 20:
            break


def test_broken_rules() -> None:
    assert report.broken_rules(state((0, 4 * G, WB), (3 * G, G, UC))) == []
    holed = Mtrrs(36).write(0x201, 1 << 30 | 0x800)
    assert report.broken_rules(holed) == ["PHYSMASK0 = 0x40000800 has holes: no contiguous range"]
    assert report.broken_rules(state((1 << 20, 4 << 20, WB))) == [
        "PHYSBASE0 = 0x100006 is not aligned to the range's size; hardware begins at 0x0"
    ]
    assert report.broken_rules(Mtrrs(36).write(0x2FF, 0x400)) == [
        "DEF_TYPE.FE = 1 with E = 0: the fixed MTRRs are off all the same"
    ]


def test_fixed_sub_ranges_of_one_type_are_one_row() -> None:
    mtrrs = state(def_type=0xC06)
    for msr in (0x250, 0x258):
        mtrrs = mtrrs.write(msr, 0x0606060606060606)
    rows, whole = report.table(mtrrs)
    assert [(row.start, row.end, row.sdm) for row in rows] == [
        (0, 0xA0000, WB),
        (0xA0000, 1 << 20, UC),
        (1 << 20, 1 << 36, WB),
    ]
    assert rows[0].sdm_deciders == ("FIX64K_00000[0]", "FIX16K_80000[7]")
    assert whole


def test_a_mask_with_holes_makes_a_table_that_is_not_whole() -> None:
    mtrrs = state().write(0x200, 6).write(0x201, 0x1000 | 0x800)
    rows, whole = report.table(mtrrs)
    assert (len(rows), whole) == (report.MAX_ROWS, False)


def test_processors_that_disagree() -> None:
    """A mask never written and one written as 0 are the same to the manual."""
    zero = Mtrrs(36).write(0x201, 0)
    other = Mtrrs(36).write(0x2FF, 0x800)
    assert report.disagreeing({0: zero, 1: Mtrrs(36), 2: other}) == [(0, 1), (2,)]
    assert report.differences(zero, other) == [report.RegisterDifference("DEF_TYPE", 0, 0x800)]


def test_explanations_name_every_register_that_could_matter() -> None:
    mtrrs = state((0, 4 * G, WB), (3 * G, G, UC))
    assert report.explain(mtrrs, 3 * G) == [
        "PHYS0 WB: the manual matches; KVM, [0x0, 0x100000000): inside",
        "PHYS1 UC: the manual matches; KVM, [0xc0000000, 0x100000000): inside",
        "the default type is UC",
    ]
    assert report.explain(mtrrs, 0)[0] == "FIX64K_00000[0] does not count: FE = 0"
    assert report.explain(Mtrrs(36), 0) == [
        "DEF_TYPE.E = 0: the MTRRs are off, all of memory is UC"
    ]
    on = mtrrs.write(0x2FF, 0xC00)
    assert report.explain(on, 0xFFFFF) == [
        "FIX4K_F8000[7] = UC: below 1 MiB and FE = 1, no variable range counts"
    ]
