"""The huge page check: the cases confirmed on KVM's own code, and that a yes is never wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.ranges import GIB, UC, WB, WC, with_ranges
from helpers.strategies import WIDTH, mtrrs
from mtrrzap.kvm.lookup import consistent, edges, lookup
from mtrrzap.x86 import msr as m
from mtrrzap.x86.mtrr import Mtrrs

MIB = 1 << 20
ALL_WB = 0x0606060606060606


def with_default(kind: int, *ranges: tuple[int, int, int], fixed: int | None = None) -> Mtrrs:
    """As ``with_ranges``; with ``fixed``, FE = 1 and all fixed MTRRs hold it."""
    state = with_ranges(*ranges).write(0x2FF, 0x800 | kind)
    if fixed is not None:
        for register in m.FIXED:
            state = state.write(register.msr, fixed)
        state = state.write(0x2FF, 0xC00 | kind)
    return state


TWO_MIB = ((WB, 0, MIB), (WB, MIB, MIB))


@pytest.mark.parametrize(
    ("state", "start", "size", "result"),
    [
        (with_default(UC, *TWO_MIB), 0, 2 * MIB, False),
        (with_default(UC, fixed=ALL_WB), 0, 2 * MIB, False),
        (with_default(WB, fixed=ALL_WB), 0, 2 * MIB, True),
        (with_default(WB, (UC, 3 * GIB, GIB)), 3 * GIB, GIB, True),
        (with_default(WB, (UC, 3 * GIB, GIB)), 2 * GIB, GIB, True),
        (with_default(WB, (UC, 3 * GIB, GIB)), 3 * GIB - 2 * MIB, 2 * MIB, True),
        (with_default(WB, (UC, 7 * GIB // 2, GIB // 2)), 3 * GIB, GIB, False),
        (with_default(UC, (WC, 3 * GIB, GIB), (WB, 0, 4 * GIB)), 3 * GIB, GIB, False),
        (Mtrrs(), 0, 4 * GIB, True),
    ],
    ids=[
        "two neighbours of one type",
        "fixed end before the range does",
        "fixed and default agree",
        "all inside a range",
        "beside a range",
        "just below a range",
        "half covered",
        "overlap of two types",
        "E=0",
    ],
)
def test_confirmed_on_kvm(state: Mtrrs, start: int, size: int, result: bool) -> None:
    assert consistent(state, start, start + size) is result


def test_ranges_below_1_mib_count_again_although_fixed_ones_decide() -> None:
    state = with_default(WB, (UC, 0, MIB), fixed=ALL_WB)
    assert [lookup(state, page << 12) for page in range(512)] == [WB] * 512
    assert not consistent(state, 0, 2 * MIB)
    assert consistent(state, 0, MIB)


def test_a_descending_list_hides_no_gap() -> None:
    """[1M,2M) comes first in the list; the neighbour below would be enough, the flag is set."""
    state = with_default(WB, *TWO_MIB)
    assert consistent(state, 0, 2 * MIB)
    assert consistent(with_default(UC, (WB, 0, 2 * MIB)), 0, 2 * MIB)


blocks = st.integers(0, 6).flatmap(
    lambda order: st.integers(0, (1 << WIDTH - 12 - order) - 1).map(
        lambda n: (n << 12 + order, n + 1 << 12 + order)
    )
)


@settings(max_examples=200, deadline=None)
@given(mtrrs(), blocks)
def test_a_consistent_range_has_one_type_on_every_page(
    state: Mtrrs, block: tuple[int, int]
) -> None:
    start, end = block
    if consistent(state, start, end):
        assert len({lookup(state, page) for page in range(start, end, 4096)}) == 1


@settings(max_examples=200, deadline=None)
@given(mtrrs(), blocks)
def test_what_is_consistent_is_consistent_in_its_halves(
    state: Mtrrs, block: tuple[int, int]
) -> None:
    start, end = block
    middle = (start + end) // 2
    if end - start > 4096 and consistent(state, start, end):
        assert consistent(state, start, middle)
        assert consistent(state, middle, end)


@settings(max_examples=60, deadline=None)
@given(mtrrs(), st.integers(0, 5))
def test_between_two_edges_all_blocks_have_one_answer(state: Mtrrs, order: int) -> None:
    size = 4096 << order
    found = edges(state)
    cell, answers = -1, set()
    for start in range(0, 1 << WIDTH, size):
        if any(start < edge < start + size for edge in found):
            continue
        here = sum(edge <= start for edge in found)
        if here != cell:
            cell, answers = here, set()
        answers.add((consistent(state, start, start + size), lookup(state, start)))
        assert len(answers) == 1
