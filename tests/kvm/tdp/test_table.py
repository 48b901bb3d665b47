"""The page table: exact visits of known tables, and random ones against a walk entry by entry."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.naive_tdp import SIZE, NaiveTable
from mtrrzap.gfn import EVERYTHING, Range
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import Walk, by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.tdp import LeafRun, Memslot, PageTable, Zap
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.x86.mtrr import Mtrrs

MASK = MtMask(by_name("v6.1"), Host())
PLAIN = Vcpu(Mtrrs(40, def_type=0x806), 0x80050033)
GIB = 1 << 18
TIB = 1 << 28


def filled(gib: int, level: int) -> PageTable:
    """Guest memory from 0, all of it mapped with pages of one size."""
    table = PageTable([Memslot(0, gib * GIB, level)])
    table.fill(PLAIN, MASK)
    return table


@pytest.mark.parametrize(
    ("maxphyaddr", "root_level", "visits"), [(46, 4, 128), (39, 4, 1), (52, 5, 16), (52, 4, 512)]
)
def test_an_empty_table(maxphyaddr: int, root_level: int, visits: int) -> None:
    table = PageTable([], root_level=root_level, host_maxphyaddr=maxphyaddr)
    for walk in Walk:
        assert table.zap(EVERYTHING, walk) == Zap(visits, 0, 0, 0, 0)
    assert table.pages == 1


@pytest.mark.parametrize(
    ("gib", "level", "visits", "leaves", "pages"),
    [
        (16, 2, 8_832, 8_192, 18),
        (16, 1, 4_203_136, 4_194_304, 18 + 8_192),
        (16, 3, 640, 16, 2),
        (12 * 1024, 1, 3_227_529_344, 3_221_225_472, 1 + 24 + 12_288 + 6_291_456),
    ],
    ids=["16 GiB of 2 MiB", "16 GiB of 4 KiB", "16 GiB of 1 GiB", "12 TiB of 4 KiB"],
)
def test_a_full_table(gib: int, level: int, visits: int, leaves: int, pages: int) -> None:
    table = filled(gib, level)
    assert (table.leaf_count(), table.pages) == (leaves, pages)
    assert table.zap(EVERYTHING, Walk.LEAFS) == Zap(visits, leaves, leaves, 0, 1)
    assert (table.leaf_count(), table.pages) == (0, pages)
    assert table.zap(EVERYTHING, Walk.LEAFS) == Zap(visits, 0, 0, 0, 0)


def test_a_full_table_by_subtrees() -> None:
    """Patch 12: the walk ends at level 3, and every present entry there goes with its subtree."""
    table = filled(16, 1)
    found = table.zap(EVERYTHING, Walk.SUBTREES)
    assert found == Zap(128 + 512, 16, 4_194_304, 16 + 8_192, 16)
    assert (table.leaf_count(), table.pages) == (0, 2)


def test_a_tree_zap_of_everything() -> None:
    """v5.15: the walk ends at the root, whose one present entry goes with its subtree."""
    table = filled(16, 1)
    pages = 1 + 16 + 8_192
    assert table.zap(EVERYTHING, Walk.TREES) == Zap(128, 1, 4_194_304, pages, pages + 1)
    assert (table.leaf_count(), table.pages) == (0, 1)


def test_a_huge_leaf_that_sticks_out() -> None:
    """A leaf zap and v5.15's take it at either end of the range, patch 12's at neither."""
    r = Range(0x100, 0x300)
    first = LeafRun(0, 0x400, 2, MASK.at(PLAIN, 0))
    for walk, left in ((Walk.LEAFS, []), (Walk.SUBTREES, [first]), (Walk.TREES, [])):
        table = PageTable([Memslot(0, 0x400, 2)])
        table.fill(PLAIN, MASK)
        table.zap(r, walk)
        assert list(table.leaves()) == left


def test_page_table_pages_stay_after_a_leaf_zap_until_a_huge_leaf_takes_their_place() -> None:
    table = PageTable([Memslot(0, 0x200, 1), Memslot(0x200, 0x400, 2)])
    table.fill(PLAIN, MASK)
    assert table.pages == 4
    table.zap(EVERYTHING, Walk.LEAFS)
    assert table.pages == 4
    assert table.cost(Range(0, 0x400), Walk.LEAFS).visits == 1 + 1 + 2 + 512
    split = PageTable([Memslot(0, 0x200, 2)])
    inside = Vcpu(Mtrrs(40).write(0x2FF, 0x806).write(0x200, 0x8000).write(0x201, 0xFFFFFF8800), 0)
    split.fault(0, inside, MASK)
    assert split.pages == 4
    split.zap(EVERYTHING, Walk.LEAFS)
    split.fault(0, PLAIN, MASK)
    assert (split.pages, next(iter(split.leaves())).level) == (3, 2)


def test_mmio_entries_cost_visits_and_are_not_zapped() -> None:
    table = PageTable([])
    assert table.fault(0xFEE00, PLAIN, MASK) is None
    assert table.pages == 4
    assert table.zap(EVERYTHING, Walk.LEAFS) == Zap(128 + 3 * 512, 0, 0, 0, 0)
    assert table.zap(EVERYTHING, Walk.SUBTREES) == Zap(128 + 512, 1, 0, 2, 1)


def test_memslots_and_mtrrs_make_leaves_small() -> None:
    state = Mtrrs(40).write(0x2FF, 0x806).write(0x200, 0xC0000000).write(0x201, 0xFFE0000800)
    table = PageTable([Memslot(0, 0xA0), Memslot(0xC0, 4 * GIB)])
    table.fill(Vcpu(state, 0x80050033), MASK)
    found = [(run.level, run.start, run.end, str(run.type)) for run in table.leaves()]
    assert found == [
        (1, 0, 0xA0, "WB"),
        (1, 0xC0, 0x200, "WB"),
        (2, 0x200, GIB, "WB"),
        (2, 3 * GIB, 3 * GIB + GIB // 2, "UC"),
        (2, 3 * GIB + GIB // 2, 4 * GIB, "WB"),
        (3, GIB, 3 * GIB, "WB"),
    ]


def test_a_root_has_4_or_5_levels() -> None:
    with pytest.raises(ValueError, match="level 3"):
        PageTable([], root_level=3)


# ---- against the walk --------------------------------------------------------------------------

EDGES = (0, GIB, 2 * GIB, SIZE[4], SIZE[4] + GIB)
near = st.builds(
    lambda edge, offset: max(0, edge + offset),
    st.sampled_from(EDGES),
    st.integers(-3, 3).map(lambda n: n * 0x200) | st.integers(-0x500, 0x500),
)


@st.composite
def slots(draw: st.DrawFn) -> list[Memslot]:
    found, last = [], 0
    for start in sorted(draw(st.lists(near, max_size=4))):
        start = max(start, last)
        last = start + draw(st.integers(1, 0x700))
        found.append(Memslot(start, last, draw(st.integers(1, 3)), draw(st.integers(0, 9)) == 9))
    if draw(st.booleans()):
        start = max(last, draw(st.sampled_from([3 * GIB, 3 * GIB + 0x123, 4 * GIB])))
        found.append(Memslot(start, start + 2 * GIB, draw(st.integers(2, 3))))
    return found


@st.composite
def vcpus(draw: st.DrawFn) -> Vcpu:
    state = Mtrrs(40)
    for index in range(draw(st.integers(0, 3))):
        base = (draw(near) << 12) & ~0xFFF
        size = draw(st.sampled_from([0x1000, 0x8000, 0x100000, 0x200000, 0x400000]))
        kind = draw(st.sampled_from([0, 6]))
        state = state.write(0x200 + 2 * index, (base & -size) | kind)
        state = state.write(0x201 + 2 * index, (1 << 40) - size | 0x800)
    fixed = draw(st.sampled_from([0, 0x0606060606060606]))
    for msr in (0x250, 0x258, 0x259, *range(0x268, 0x270)):
        state = state.write(msr, fixed)
    state = state.write(0x2FF, draw(st.sampled_from([0, 0x806, 0xC06, 0xC00])))
    return Vcpu(state, draw(st.sampled_from([0x60000010, 0x80050033])))


@dataclass
class Pair:
    """The same guest in both tables."""

    slots: list[Memslot]
    root_level: int
    fast: PageTable = field(init=False)
    naive: NaiveTable = field(init=False)

    def __post_init__(self) -> None:
        self.fast = PageTable(self.slots, root_level=self.root_level)
        self.naive = NaiveTable(self.slots, self.root_level)

    def fault(self, gfn: int, vcpu: Vcpu) -> None:
        self.fast.fault(gfn, vcpu, MASK)
        self.naive.fault(gfn, vcpu, MASK)

    def fill(self, within: Range, vcpu: Vcpu) -> None:
        self.fast.fill(vcpu, MASK, within)
        for slot in self.slots:
            gfn = max(slot.start, within.start)
            while gfn < min(slot.end, within.end):
                self.naive.fault(gfn, vcpu, MASK)
                level = next(k for k in (1, 2, 3) if self.naive.entry(gfn, k) is not None)
                gfn += SIZE[level] - gfn % SIZE[level]

    def zap(self, r: Range, walk: Walk) -> None:
        leaves, pages = len(self.naive.leaves()), self.naive.pages()
        zap = {
            Walk.LEAFS: self.naive.zap_leafs,
            Walk.SUBTREES: self.naive.zap_subtrees,
            Walk.TREES: self.naive.zap_trees,
            Walk.MARK: self.naive.mark,
        }[walk]
        visits, entries = zap(r.start, r.end)
        gone, freed = leaves - len(self.naive.leaves()), pages - self.naive.pages()
        flushes = entries if walk is Walk.SUBTREES else int(entries > 0)
        flushes += freed if walk is Walk.TREES else 0
        assert self.fast.zap(r, walk) == Zap(visits, entries, gone, freed, flushes)

    def compare(self) -> None:
        expected = [(g, k, None if e == "npt" else e) for g, k, e in self.naive.leaves()]
        found = [
            (gfn, run.level, run.type)
            for run in self.fast.leaves()
            for gfn in range(run.start, run.end, SIZE[run.level])
        ]
        assert sorted(found, key=lambda leaf: leaf[0]) == expected
        assert self.fast.leaf_count() == len(expected)
        assert self.fast.pages == self.naive.pages()


ranges = st.one_of(
    st.builds(Range, near, near),
    st.builds(lambda a, n: Range(a, a + n), near, st.sampled_from([1, 0x100, 0x200, 0x400, GIB])),
    st.just(EVERYTHING),
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("fault"), near, vcpus()),
        st.tuples(st.just("fill"), ranges, vcpus()),
        st.tuples(st.just("zap"), ranges, st.sampled_from(Walk)),
        st.tuples(st.just("zap"), ranges, st.sampled_from(Walk)),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(slots(), st.sampled_from([4, 5]), operations)
def test_against_the_walk(
    memory: list[Memslot], root_level: int, steps: list[tuple[str, object, object]]
) -> None:
    pair = Pair(memory, root_level)
    for name, *arguments in steps:
        getattr(pair, name)(*arguments)
    pair.compare()
