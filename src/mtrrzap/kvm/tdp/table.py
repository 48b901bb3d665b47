"""The page table: faults, both kinds of zap, and the exact number of entries that a walk visits.

A walk is ``tdp_iter`` (arch/x86/kvm/mmu/tdp_iter.c, v6.1) without contention: pre-order, every
entry of every page-table page that it enters and that overlaps the range, never back to a parent.
So the visits at a level are the entries of that level's tables that overlap the range. Counting
them needs no walk. ``tests/kvm/tdp/test_table.py`` compares the counts with a walk.

Not modelled: several roots (SMM, nested guests), write-protection and dirty logging, the NX huge
page workaround, concurrent faults, yields.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from mtrrzap.gfn import EVERYTHING, PAGE_SHIFT, Range
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import Walk
from mtrrzap.kvm.replay import HOST_MAXPHYADDR
from mtrrzap.kvm.tdp.blocks import LeafRun, Leaves, Memslot, disjoint
from mtrrzap.kvm.tdp.levels import BITS, TOP_LEAF, down, frames, up
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.x86.ept import EptType

V = TypeVar("V")


class Runs(Generic[V]):
    """A map from frames to values, kept as maximal runs ``(start, end, value)``, ascending.

    Finding a run takes logarithmic time, a change also moves the runs behind it.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._values: list[V] = []

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, V]]:
        return zip(self._starts, self._ends, self._values, strict=True)

    def covers(self, frame: int) -> bool:
        """Tell if a frame has a value."""
        index = bisect_right(self._ends, frame)
        return index < len(self._starts) and self._starts[index] <= frame

    def overlapping(self, start: int, end: int) -> Iterator[tuple[int, int, V]]:
        """Yield the runs, cut to ``[start, end)``, that have a frame in it."""
        if start >= end:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        for index in range(first, last):
            yield max(self._starts[index], start), min(self._ends[index], end), self._values[index]

    def count(self, start: int, end: int) -> int:
        """Return how many frames of ``[start, end)`` have a value."""
        return sum(b - a for a, b, _ in self.overlapping(start, end))

    def set(self, start: int, end: int, value: V) -> None:
        """Give all of ``[start, end)`` one value."""
        self._splice(start, end, [(start, end, value)])

    def clear(self, start: int, end: int) -> None:
        """Forget the values of ``[start, end)``."""
        self._splice(start, end, [])

    def _splice(self, start: int, end: int, middle: list[tuple[int, int, V]]) -> None:
        if start >= end:
            return
        # Runs that only touch the stretch are taken along: they may have the same value.
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        old = list(
            zip(
                self._starts[first:last],
                self._ends[first:last],
                self._values[first:last],
                strict=True,
            )
        )
        pieces = [(a, min(b, start), v) for a, b, v in old if a < start]
        pieces += middle
        pieces += [(max(a, end), b, v) for a, b, v in old if b > end]
        joined: list[tuple[int, int, V]] = []
        for a, b, v in pieces:
            if joined and joined[-1][1] == a and joined[-1][2] == v:
                joined[-1] = (joined[-1][0], b, v)
            else:
                joined.append((a, b, v))
        self._starts[first:last] = [a for a, _, _ in joined]
        self._ends[first:last] = [b for _, b, _ in joined]
        self._values[first:last] = [v for _, _, v in joined]


class Zap(NamedTuple):
    """What one walk over one range does. It is a plan as well: ``PageTable.cost`` changes nothing.

    ``flushes`` are TLB flushes: one at the end of a leaf zap that cleared something, one for every
    entry that a subtree zap clears.
    """

    visits: int
    """Entries that the iterator looks at."""
    entries: int
    """Entries that the walk itself clears, leaves or not."""
    leaves: int
    """Leaves that are gone, those in freed subtrees too."""
    pages: int
    """Page-table pages that are freed."""
    flushes: int

    def __add__(self, other: object) -> "Zap":
        if not isinstance(other, Zap):
            return NotImplemented
        return Zap(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING = Zap(0, 0, 0, 0, 0)


class PageTable:
    """One root. It stores runs of equal leaves, so it is as large as what differs, not as memory.

    ``root_level`` is 4 or 5; a guest frame beyond the root's span cannot be mapped.
    """

    def __init__(
        self,
        slots: Iterable[Memslot],
        *,
        root_level: int = 4,
        host_maxphyaddr: int = HOST_MAXPHYADDR,
    ) -> None:
        """Make the root, empty. Raises ``ValueError`` for another number of levels."""
        if root_level not in (4, 5):
            raise ValueError(f"a root of level {root_level}: KVM has 4 and 5")
        self.root_level = root_level
        span = 1 << BITS * root_level
        self._top = min(span, 1 << (host_maxphyaddr - PAGE_SHIFT))
        inside = (s._replace(end=min(s.end, self._top)) for s in slots if s.start < self._top)
        self.slots = disjoint(inside)
        self._slot_starts = [slot.start for slot in self.slots]
        self._leaves: dict[int, Runs[EptType | None]] = {
            level: Runs() for level in range(1, TOP_LEAF + 1)
        }
        # The frames below a page-table page of a level; the root always exists and is not here.
        self._tables: dict[int, Runs[bool]] = {level: Runs() for level in range(1, root_level)}

    # -- what is there

    @property
    def pages(self) -> int:
        """Page-table pages, the root included."""
        return 1 + self._table_pages(self._tables, 0, frames(self.root_level + 1))

    def leaves(self) -> Iterator[LeafRun]:
        """Yield the present leaves as runs, level by level, ascending in each."""
        for level, runs in self._leaves.items():
            for start, end, kind in runs:
                yield LeafRun(start, end, level, kind)

    def leaf_count(self) -> int:
        """Return the number of present leaves."""
        return sum((run.end - run.start) // frames(run.level) for run in self.leaves())

    def mapped(self, gfn: int) -> bool:
        """Tell if an access to a frame finds a leaf, so makes no fault."""
        return any(runs.covers(gfn) for runs in self._leaves.values())

    def _table_pages(self, levels: Iterable[int], start: int, end: int) -> int:
        return sum(self._tables[k].count(start, end) // frames(k + 1) for k in levels)

    # -- faults

    def fault(self, gfn: int, vcpu: Vcpu, mask: MtMask) -> LeafRun | None:
        """Let a vCPU touch a frame; return the leaf that its fault installs, if any.

        A frame of no memslot gets an MMIO entry, which is not "present" to a walk; the page-table
        pages above it are there all the same.
        """
        if self.mapped(gfn) or gfn >= self._top:
            return None
        slot = self._slot(gfn)
        if slot is None:
            self._link(gfn, gfn + 1, 1)
            return None
        for run in Leaves(vcpu, mask).runs(slot):
            if gfn < run.end:
                start = down(gfn, run.level)
                leaf = run._replace(start=start, end=start + frames(run.level))
                self._install(leaf)
                return leaf
        raise AssertionError("the runs cover the memslot")

    def fill(self, vcpu: Vcpu, mask: MtMask, within: Range = EVERYTHING) -> None:
        """Let a vCPU touch every frame of the memslots (inside a range), in any order."""
        leaves = Leaves(vcpu, mask)
        for slot in self.slots:
            start, end = max(slot.start, within.start), min(slot.end, within.end)
            if start >= end:
                continue
            for run in leaves.runs(slot):
                for a, b in self._gaps(max(run.start, start), min(run.end, end)):
                    self._install(run._replace(start=down(a, run.level), end=up(b, run.level)))

    def _slot(self, gfn: int) -> Memslot | None:
        index = bisect_right(self._slot_starts, gfn) - 1
        return self.slots[index] if index >= 0 and gfn < self.slots[index].end else None

    def _gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of ``[start, end)`` that no leaf maps."""
        mapped = sorted(
            run[:2] for runs in self._leaves.values() for run in runs.overlapping(start, end)
        )
        found = []
        for a, b in (*mapped, (end, end)):
            if start < a:
                found.append((start, a))
            start = max(start, b)
        return found

    def _link(self, start: int, end: int, level: int) -> None:
        for k in range(level, self.root_level):
            self._tables[k].set(down(start, k + 1), up(end, k + 1), value=True)

    def _install(self, run: LeafRun) -> None:
        # A huge leaf takes the place of the table that smaller leaves, zapped or not, left there.
        for level in range(1, run.level):
            self._leaves[level].clear(run.start, run.end)
            self._tables[level].clear(run.start, run.end)
        self._link(run.start, run.end, run.level)
        self._leaves[run.level].set(run.start, run.end, run.type)

    # -- zaps

    def zap(self, r: Range, walk: Walk) -> Zap:
        """Zap a range, and return what it took."""
        start, end = r.start, min(r.end, self._top)
        done = self.cost(r, walk)
        if start >= end:
            return done
        if walk is Walk.MARK:
            return done  # the entries stay; later accesses recompute their types
        if walk is Walk.LEAFS:
            self._clear_leaves(start, end)
            return done
        for level, zones in self._zones(start, self._end(r, walk), walk):
            for a, b in zones:
                for k in range(1, level):
                    self._tables[k].clear(a, b)
                for k in range(1, min(level, TOP_LEAF) + 1):
                    self._leaves[k].clear(a, b)
        if walk is Walk.TREES:
            self._clear_leaves(start, end)
        return done

    def _clear_leaves(self, start: int, end: int) -> None:
        for level, runs in self._leaves.items():
            runs.clear(down(start, level), up(end, level))

    def cost(self, r: Range, walk: Walk) -> Zap:
        """Return what zapping a range would take, without doing it."""
        start, end = r.start, min(r.end, self._top)
        if start >= end:
            return NOTHING
        if walk is Walk.LEAFS:
            return self._leaf_cost(start, end)
        if walk is Walk.MARK:
            return self._mark_cost(start, end)
        return self._subtree_cost(start, self._end(r, walk), walk)

    def _end(self, r: Range, walk: Walk) -> int:
        """Return the range's end; everything has all of the root's entries inside (``TREES``)."""
        end = min(r.end, self._top)
        everything = r.start == 0 and r.end >= self._top
        return up(end, self.root_level) if walk is Walk.TREES and everything else end

    def _leaf_cost(self, start: int, end: int) -> Zap:
        visits = _entries(start, end, self.root_level)
        visits += sum(self._entries_in_tables(level, start, end) for level in self._tables)
        leaves = self._overlapping_leaves(start, end)
        return Zap(visits, leaves, leaves, 0, int(leaves > 0))

    def _overlapping_leaves(self, start: int, end: int) -> int:
        return sum(
            runs.count(down(start, level), up(end, level)) // frames(level)
            for level, runs in self._leaves.items()
        )

    def _mark_cost(self, start: int, end: int) -> Zap:
        """Count the root's entries in the range, and as entries those of them that are present."""
        level = self.root_level
        tables = self._tables[level - 1]
        marked = tables.count(down(start, level), up(end, level)) // frames(level)
        return Zap(_entries(start, end, level), marked, 0, 0, int(marked > 0))

    def _subtree_cost(self, start: int, end: int, walk: Walk) -> Zap:
        visits = _entries(start, end, self.root_level)
        limit = self._limit(walk)
        visits += sum(
            self._entries_in_tables(level, start, end) for level in range(limit, self.root_level)
        )
        entries = leaves = pages = 0
        for level, zones in self._zones(start, end, walk):
            for a, b in zones:
                below = range(1, level)
                whole = self._leaves[level].count(a, b) // frames(level) if level <= TOP_LEAF else 0
                entries += whole
                if level > 1:
                    entries += self._tables[level - 1].count(a, b) // frames(level)
                inside = range(1, min(level, TOP_LEAF + 1))
                leaves += whole + sum(self._leaves[k].count(a, b) // frames(k) for k in inside)
                pages += self._table_pages(below, a, b)
            if level > 1:
                # The entries that stick out of the range are entered, the whole ones are not.
                visits += sum(
                    self._entries_in_tables(level - 1, a, b) for a, b in _borders(start, end, level)
                )
        if walk is Walk.SUBTREES:
            return Zap(visits, entries, leaves, pages, entries)
        cut = self._overlapping_leaves(start, end) - leaves
        entries += cut
        # The TLBs are flushed for each freed page, and once at the end.
        return Zap(visits, entries, leaves + cut, pages, pages + int(entries > 0))

    def _limit(self, walk: Walk) -> int:
        """Return the level up to which a walk clears entries with what is below them."""
        return TOP_LEAF if walk is Walk.SUBTREES else self.root_level

    def _zones(
        self, start: int, end: int, walk: Walk
    ) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Yield, per level, where a subtree zap clears whole entries of that level."""
        open_parts = [(start, end)]
        for level in range(self._limit(walk), 0, -1):
            zones = [(up(a, level), down(b, level)) for a, b in open_parts]
            yield level, [(a, b) for a, b in zones if a < b]
            open_parts = _borders(start, end, level)

    def _entries_in_tables(self, level: int, start: int, end: int) -> int:
        """Return the entries in page-table pages of a level that overlap the range."""
        return self._tables[level].count(down(start, level), up(end, level)) // frames(level)


def _entries(start: int, end: int, level: int) -> int:
    return (up(end, level) - down(start, level)) // frames(level)


def _borders(start: int, end: int, level: int) -> list[tuple[int, int]]:
    """Return the parts of a range that no whole entry of a level covers, at most two."""
    first, last = up(start, level), down(end, level)
    if first >= last:
        return [(start, end)]
    return [(a, b) for a, b in ((start, first), (last, end)) if a < b]
