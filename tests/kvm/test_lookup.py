"""KVM's lookup: the cases confirmed on KVM's own code, and the map against the lookup."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.ranges import GIB, UC, WB, WC, WP, WT, with_ranges
from helpers.strategies import WIDTH, mtrrs
from mtrrzap.kvm import lookup as memtype
from mtrrzap.kvm.lookup import variable_bounds
from mtrrzap.x86 import physmap
from mtrrzap.x86.memtype import MTRR_TYPES, MemType
from mtrrzap.x86.mtrr import Mtrrs


@pytest.mark.parametrize(
    ("ranges", "address", "kvm", "sdm"),
    [
        (((WB, 0, 4 * GIB), (UC, 3 * GIB, GIB)), 3 * GIB, WB, UC),
        (((WB, 0, 4 * GIB), (UC, 3 * GIB, GIB)), GIB, WB, WB),
        (((UC, 0, 2 * GIB), (WB, GIB, GIB)), GIB, UC, UC),
        (((WB, 0, 2 * GIB), (UC, 0, GIB)), 0, UC, UC),
        (((WC, 3 * GIB, GIB), (WB, 0, 4 * GIB)), 3 * GIB, WB, None),
        (((WT, 3 * GIB, GIB), (WB, 0, 4 * GIB)), 3 * GIB, WT, WT),
        (((WP, 0, GIB), (WP, 0, 2 * GIB)), 0, WP, WP),
        (((WB, 0, GIB),), 2 * GIB, UC, UC),
    ],
)
def test_overlaps(
    ranges: tuple[tuple[int, int, int], ...], address: int, kvm: int, sdm: int | None
) -> None:
    """The order-dependent results of KVM's list, beside the manual's."""
    for order in (ranges, ranges[::-1]):
        state = with_ranges(*order)
        assert memtype.lookup(state, address) == kvm
        assert physmap.lookup(state, address).type == sdm


def test_three_way_overlap_depends_on_the_bases() -> None:
    state = with_ranges((UC, 3 * GIB, GIB), (WB, 2 * GIB, 2 * GIB), (WT, 0, 4 * GIB))
    assert memtype.lookup(state, 3 * GIB) == WB
    state = with_ranges((WB, 3 * GIB, GIB), (WT, 2 * GIB, 2 * GIB), (UC, 0, 4 * GIB))
    assert memtype.lookup(state, 3 * GIB) == UC


def test_disabled() -> None:
    assert memtype.lookup(Mtrrs(), 0) is MemType.UC
    assert memtype.lookup(Mtrrs(), 0, guest_has_mtrr=False) is MemType.WB


@pytest.mark.parametrize(
    ("base", "mask", "bounds"),
    [
        (0x100000, None, (0x100000, 0)),
        (0x100000, 0, (0x100000, 1 << 36)),
        (0, 0xFFFC00000, (0, 0x400000)),
        (0x100000, 0xFFFC00000, (0x100000, 0x400000)),
        (0, 1 << 30, (0, 0xFC0000000)),
    ],
    ids=["never written", "written as 0", "aligned", "unaligned base", "holes"],
)
def test_variable_bounds(base: int, mask: int | None, bounds: tuple[int, int]) -> None:
    state = Mtrrs(36).write(0x200, base)
    if mask is not None:
        state = state.write(0x201, mask)
    assert variable_bounds(state, 0) == bounds


def test_list_order_is_descending_by_the_raw_base() -> None:
    state = with_ranges((WB, 0, GIB), (UC, 2 * GIB, GIB), (WT, 0, GIB), (WC, GIB, GIB))
    assert [r.number for r in memtype.variable_ranges(state)] == [1, 3, 0, 2]


def oracle(state: Mtrrs, page: int) -> int:
    """KVM's walk, written from its description: one loop over the ranges, descending by base."""
    def_type = state.read(0x2FF)
    if not def_type & 0x800:
        return UC
    if page < 0x100 and def_type & 0x400:
        return state.fixed_types()[
            page // 16 if page < 0x80 else 8 + (page - 0x80) // 4 if page < 0xC0 else page - 0xA8
        ]
    result = None
    for index in sorted(range(8), key=lambda i: -state.bases[i]):
        start, end = variable_bounds(state, index)
        if not state.valid(index) or not start >> 12 <= page < end >> 12:
            continue
        kind = state.bases[index] & 0xFF
        if result is None or result == kind:
            result = kind
        elif kind == UC:
            return UC
        elif {kind, result} == {WT, WB}:
            result = WT
        else:
            return WB
    return def_type & 0xFF if result is None else result


@settings(max_examples=100, deadline=None)
@given(mtrrs())
def test_the_map_agrees_with_the_walk_page_by_page(state: Mtrrs) -> None:
    pages = 1 << WIDTH - 12
    expected = [oracle(state, page) for page in range(pages)]
    assert [memtype.lookup(state, page << 12) for page in range(pages)] == expected
    segments = list(memtype.physical_map(state))
    found = [s.type for s in segments for _ in range((s.end - s.start) >> 12)]
    assert found == expected
    assert all(a[2:] != b[2:] for a, b in itertools.pairwise(segments))


@given(st.lists(st.sampled_from(sorted(MTRR_TYPES)), max_size=8), st.integers(0, 7))
def test_without_overlaps_kvm_and_the_manual_agree(kinds: list[MemType], where: int) -> None:
    state = with_ranges(*((kind, index * GIB, GIB) for index, kind in enumerate(kinds)))
    address = where * GIB
    assert memtype.lookup(state, address) == physmap.lookup(state, address).type
