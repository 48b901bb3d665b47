"""What ``show`` is made of."""

from hypothesis import given, settings

from helpers.strategies import mtrrs
from helpers.traces import FINE, cr0, trace, wrmsr
from mtrrzap.guest.event import Event, Kind
from mtrrzap.kvm import lookup as memtype
from mtrrzap.report.text import cell, numbers
from mtrrzap.study.trace_summary import final_map, groups, summaries, unmarked_refusals
from mtrrzap.x86 import physmap
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs


def test_both_maps_of_an_overlap() -> None:
    """KVM gives WB where the manual gives UC, and where it gives nothing."""
    state = Mtrrs(36).write(0x2FF, 0x800)
    for msr, value in (
        (0x200, 0x00000006),
        (0x201, 0xF00000800),
        (0x202, 0xC0000000),
        (0x203, 0xFC0000800),
        (0x204, 0x40000001),
        (0x205, 0xFC0000800),
    ):
        state = state.write(msr, value)
    gib = 1 << 30
    assert [tuple(row) for row in final_map(state)] == [
        (0, gib, 6, 6, ("PHYS0",)),
        (gib, 2 * gib, None, 6, ("PHYS0", "PHYS2")),
        (2 * gib, 3 * gib, 6, 6, ("PHYS0",)),
        (3 * gib, 4 * gib, 0, 6, ("PHYS0", "PHYS1")),
        (4 * gib, 64 * gib, 0, 0, ("default",)),
    ]


@settings(max_examples=50, deadline=None)
@given(mtrrs())
def test_both_maps_are_the_two_maps(state: Mtrrs) -> None:
    rows = list(final_map(state))
    assert [row.start for row in rows] == [0, *(row.end for row in rows)][:-1]
    assert rows[-1].end == 1 << 24
    for row in rows:
        for address in (row.start, (row.start + row.end) // 2 & ~0xFFF, row.end - 0x1000):
            assert physmap.lookup(state, address).type == row.sdm
            assert memtype.lookup(state, address) == row.kvm


def test_summaries() -> None:
    events = (
        *FINE,
        cr0(0x60000011),
        Event(0, Kind.INIT),
        wrmsr(0x277, 0, vcpu=1),
        wrmsr(0x2FF, 0x1000, vcpu=1)._replace(refused=True),
        Event(1, Kind.HOST_WRMSR, 0x2FF, 0),
    )
    rows = summaries(trace(*events))
    assert tuple(rows[0]) == (0, 5, 0, 0, 1, 2, 2, 1, 1, 0)
    assert tuple(rows[1]) == (1, 1, 1, 1, 2, 0, 0, 0, 0, 1)


def test_unmarked_refusals() -> None:
    bad = wrmsr(0x250, 3)
    marked = bad._replace(refused=True)
    found = unmarked_refusals(trace(*FINE, bad, marked, cr0(0x20000000)))
    assert found == [
        (7, bad, "byte 0 is 0x3, which is not a memory type there"),
        (9, cr0(0x20000000), "NW = 1 needs CD = 1"),
    ]


def test_cells_and_numbers() -> None:
    values = (None, 12345, MemType.UC, "[a]\x1b", False)
    assert [cell(v) for v in values] == ["-", "12,345", "UC", "[a]\\x1b", "False"]
    assert numbers([0, 2, 3, 4, 7]) == "0, 2-4, 7"


def test_vcpus_agree_if_their_mtrrs_read_alike() -> None:
    """IA32_PAT is no MTRR, and a mask written as 0 reads like one that was never written."""
    events = (wrmsr(0x277, 0x0007010600070106), wrmsr(0x201, 0, vcpu=1))
    assert [group.vcpus for group in groups(trace(*events))] == [(0, 1, 2, 3)]
    assert [group.vcpus for group in groups(trace(*events, wrmsr(0x200, 6)))] == [(0,), (1, 2, 3)]
