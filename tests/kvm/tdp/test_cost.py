"""Walks of whole traces on a full page table: exact sums."""

from dataclasses import replace

from helpers import guests
from helpers.traces import HEADER
from mtrrzap.gfn import Range
from mtrrzap.guest.trace import Slot
from mtrrzap.kvm.policy import Walk, by_name
from mtrrzap.kvm.replay import Host, Request, Why, replay
from mtrrzap.kvm.tdp.cost import FullTable
from mtrrzap.kvm.tdp.table import Zap

GIB = 1 << 18


def asked(*ranges: Range) -> list[Request]:
    return [Request(0, 0, Why.DEF_TYPE, ranges)]


def test_every_walk_finds_the_table_full() -> None:
    header = replace(HEADER, memslots=(Slot(0, 16 * GIB, "ram"),))
    table = FullTable(header, Host(), 2)
    everything = Range(0, 1 << 34)
    once = table.cost(asked(everything), Walk.LEAFS)
    assert once == Zap(8_832, 8_192, 8_192, 0, 1)
    assert table.cost(asked(everything, everything), Walk.LEAFS) == once + once
    assert table.cost(asked(), Walk.LEAFS) == Zap(0, 0, 0, 0, 0)


def test_without_memslots_memory_begins_at_0() -> None:
    header = replace(HEADER, memslots=(), memory=3 << 30)
    table = FullTable(header, Host(), 3)
    assert table.cost(asked(Range(0, 1 << 34)), Walk.LEAFS).entries == 3


def test_guests_with_more_than_48_bits_have_five_levels() -> None:
    wide = replace(HEADER, memslots=(Slot(0, 1, "ram"),), maxphyaddr=52)
    table = FullTable(wide, Host(maxphyaddr=52), 1)
    found = table.cost(asked(Range(0, 1 << 52)), Walk.LEAFS)
    assert found == Zap(16 + 4 * 512, 1, 1, 0, 1)


def test_patch_11_makes_patch_12_clear_more_entries() -> None:
    """Memslots do not end at 1 GiB borders: their ends are cleared page by page."""
    made = guests.seabios(8)
    table = FullTable(made.header, Host(), 1)
    found = {
        name: table.cost(replay(made, by_name(name)), by_name(name).walk)
        for name in ("Base2", "+12", "+9+10+12", "+9+10+11+12")
    }
    assert {name: (zap.entries, zap.visits) for name, zap in found.items()} == {
        "Base2": (176_162_112, 176_574_720),
        "+12": (714, 26_880),
        "+9+10+12": (4_458, 20_058),
        "+9+10+11+12": (29_730, 30_690),
    }
    assert found["Base2"].flushes == 42
    assert found["+12"].flushes == 714
