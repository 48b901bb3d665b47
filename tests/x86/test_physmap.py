"""The manual's lookup and map against an oracle that applies the manual's text page by page."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.strategies import WIDTH, mtrrs
from mtrrzap.x86 import physmap
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs
from mtrrzap.x86.physmap import MapSegment

UC, WC, WT, WP, WB = 0, 1, 4, 5, 6
PAGES = 1 << WIDTH - 12


def merged(segments: Iterable[MapSegment]) -> list[tuple[int, int, MemType | None]]:
    """Join neighbours of one type, whoever decided."""
    joined: list[tuple[int, int, MemType | None]] = []
    for start, end, kind, _ in segments:
        if joined and joined[-1][2] == kind:
            start = joined.pop()[0]
        joined.append((start, end, kind))
    return joined


def oracle(state: Mtrrs, page: int) -> int | None:
    """The manual's rules in its order; of the model only ``read`` is used."""
    def_type = state.read(0x2FF)
    if not def_type & 0x800:
        return UC
    if page < 0x100 and def_type & 0x400:
        if page < 0x80:
            msr, byte = 0x250, page // 16
        elif page < 0xC0:
            msr, byte = 0x258 + (page - 0x80) // 32, (page - 0x80) % 32 // 4
        else:
            msr, byte = 0x268 + (page - 0xC0) // 8, page % 8
        return state.read(msr) >> 8 * byte & 0xFF
    found = set()
    for msr in range(0x200, 0x210, 2):
        base, mask = state.read(msr), state.read(msr + 1)
        if mask & 0x800 and (page << 12) & (mask & ~0xFFF) == base & mask & ~0xFFF:
            found.add(base & 0xFF)
    if not found:
        return def_type & 0xFF
    if len(found) == 1:
        return found.pop()
    if UC in found:
        return UC
    return WT if found == {WT, WB} else None


@settings(max_examples=150, deadline=None)
@given(mtrrs())
def test_the_map_agrees_with_the_manual_page_by_page(state: Mtrrs) -> None:
    expected = [oracle(state, page) for page in range(PAGES)]
    assert [physmap.lookup(state, page << 12).type for page in range(PAGES)] == expected
    from_map: list[int | None] = []
    segments = list(physmap.physical_map(state))
    for segment in segments:
        assert segment.start == len(from_map) << 12
        from_map += [segment.type] * ((segment.end - segment.start) >> 12)
    assert from_map == expected
    assert all(a[2:] != b[2:] for a, b in itertools.pairwise(segments))


@given(mtrrs(), st.integers(0, PAGES - 1))
def test_deciders_are_the_registers_that_match(state: Mtrrs, page: int) -> None:
    names = physmap.lookup(state, page << 12).deciders
    if names[0].startswith("PHYS"):
        assert all(physmap.matches(state, int(name[4:]), page << 12) for name in names)


def test_segments_of_a_usual_layout() -> None:
    """SeaBIOS's layout with 16 GiB: WB but for the hole below 4 GiB and the fixed ranges."""
    state = Mtrrs(40).write(0x2FF, 0xC06).write(0x200, 0xC0000000).write(0x201, 0xFFC0000800)
    for msr in (0x250, 0x258):
        state = state.write(msr, 0x0606060606060606)
    for msr in range(0x268, 0x270):
        state = state.write(msr, 0x0505050505050505)
    assert merged(physmap.physical_map(state)) == [
        (0, 0xA0000, WB),
        (0xA0000, 0xC0000, UC),
        (0xC0000, 0x100000, WP),
        (0x100000, 0xC0000000, WB),
        (0xC0000000, 0x100000000, UC),
        (0x100000000, 1 << 40, WB),
    ]
    assert list(physmap.physical_map(state))[-2] == MapSegment(
        0xC0000000, 0x100000000, MemType.UC, ("PHYS0",)
    )


def test_a_mask_with_holes_is_walked_lazily() -> None:
    """Bits 39 and 12 only: 2^27 segments, of which only three are made."""
    state = Mtrrs(40).write(0x2FF, 0x806).write(0x200, 0x1000).write(0x201, (1 << 39) | 0x1800)
    first = [segment for segment, _ in zip(physmap.physical_map(state), range(3), strict=False)]
    assert [s.type for s in first] == [WB, UC, WB]
    assert [s.end for s in first] == [0x1000, 0x2000, 0x3000]


@pytest.mark.parametrize(
    ("types", "result"),
    [
        ({WB}, WB),
        ({UC, WB}, UC),
        ({UC, WB, WT}, UC),
        ({WT, WB}, WT),
        ({WC, WB}, None),
        ({WP, WB}, None),
        ({WC, WT}, None),
        ({WT, WB, WP}, None),
    ],
)
def test_precedence(types: set[int], result: int | None) -> None:
    assert physmap.precedence(map(MemType, types)) == result


def test_no_fixed_range_above_1_mib() -> None:
    with pytest.raises(ValueError, match="0x100000 is not below"):
        physmap.fixed_decider(0x100000)
