"""A page table entry by entry, and a walk that goes through it as ``tdp_iter`` does.

The oracle of ``mtrrzap.kvm.tdp``: no runs, no closed forms; every visit is made.
"""

from collections.abc import Callable, Iterable, Iterator

from mtrrzap.kvm.lookup import consistent, lookup
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.tdp import Memslot
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.memtype import MemType

SIZE = {1: 1, 2: 1 << 9, 3: 1 << 18, 4: 1 << 27, 5: 1 << 36}

Table = dict[int, "Table | EptType | str | None"]
"""Index -> a lower table, a leaf's type (``npt`` where there is none), or ``mmio``; else absent."""


def is_table(entry: object) -> bool:
    return isinstance(entry, dict)


def is_present(entry: object) -> bool:
    return entry is not None and entry != "mmio"


class NaiveTable:
    def __init__(self, slots: Iterable[Memslot], root_level: int = 4, top: int = 1 << 34) -> None:
        self.slots = sorted(slots)
        self.root_level = root_level
        self.root: Table = {}
        self.top = min(top, 512 * SIZE[root_level])

    # -- structure

    def entry(self, gfn: int, level: int) -> object:
        """The entry of a level above a frame; None if absent or if its table is."""
        table: object = self.root
        for k in range(self.root_level, level, -1):
            assert isinstance(table, dict)
            table = table.get(gfn // SIZE[k] % 512)
            if not is_table(table):
                return None
        assert isinstance(table, dict)
        return table.get(gfn // SIZE[level] % 512)

    def put(self, gfn: int, level: int, value: "EptType | str | None") -> None:
        table = self.root
        for k in range(self.root_level, level, -1):
            index = gfn // SIZE[k] % 512
            if not is_table(table.get(index)):
                table[index] = {}
            lower = table[index]
            assert isinstance(lower, dict)
            table = lower
        index = gfn // SIZE[level] % 512
        if value is None:
            table.pop(index, None)
        else:
            table[index] = value

    def leaves(self) -> list[tuple[int, int, object]]:
        """(first frame, level, type) of every leaf, ascending."""
        return sorted(
            ((g, k, e) for g, k, e in self._all(self.root, 0, self.root_level) if not is_table(e)),
            key=lambda leaf: leaf[0],
        )

    def pages(self) -> int:
        entries = self._all(self.root, 0, self.root_level)
        return 1 + sum(is_table(entry) for _, _, entry in entries)

    def _all(self, table: Table, base: int, level: int) -> Iterator[tuple[int, int, object]]:
        for index, entry in table.items():
            gfn = base + index * SIZE[level]
            if is_present(entry):
                yield gfn, level, entry
            if isinstance(entry, dict):
                yield from self._all(entry, gfn, level - 1)

    # -- faults

    def mapped(self, gfn: int) -> bool:
        entries = [self.entry(gfn, level) for level in (1, 2, 3)]
        return any(is_present(e) and not is_table(e) for e in entries)

    def fault(self, gfn: int, vcpu: Vcpu, mask: MtMask, top_level: int = 3) -> None:
        if self.mapped(gfn):
            return
        slot = next((s for s in self.slots if s.start <= gfn < s.end), None)
        if slot is None:
            self.put(gfn, 1, "mmio")
            return
        level = level_of(slot, gfn, vcpu, mask, top_level)
        first = gfn - gfn % SIZE[level]
        self.put(first, level, type_of(slot, first, vcpu, mask) or "npt")

    # -- zaps

    def walk(self, start: int, end: int, visit: Callable[[int, int, object], None]) -> int:
        """Visit entries as ``tdp_iter`` does from start to end; return how many."""
        end = min(end, self.top)
        if start >= end:
            return 0
        target, level, visits = start, self.root_level, 0
        while True:
            gfn = target - target % SIZE[level]
            if gfn >= end:
                return visits
            visits += 1
            visit(gfn, level, self.entry(gfn, level))
            if level > 1 and is_table(self.entry(gfn, level)):
                level -= 1
                continue
            while gfn // SIZE[level] % 512 == 511:
                if level == self.root_level:
                    return visits
                level += 1
                gfn -= gfn % SIZE[level]
            target = gfn + SIZE[level]

    def zap_leafs(self, start: int, end: int) -> tuple[int, int]:
        """Return (visits, entries cleared)."""
        cleared: list[tuple[int, int]] = []

        def visit(gfn: int, level: int, entry: object) -> None:
            if is_present(entry) and not is_table(entry):
                self.put(gfn, level, None)
                cleared.append((gfn, level))

        return self.walk(start, end, visit), len(cleared)

    def mark(self, start: int, end: int) -> tuple[int, int]:
        """Look at the root's entries in the range; count those that have a table below."""
        if start >= min(end, self.top):
            return 0, 0
        size = SIZE[self.root_level]
        indices = range(start // size, -(-min(end, self.top) // size))
        return len(indices), sum(is_table(self.root.get(index)) for index in indices)

    def zap_subtrees(self, start: int, end: int) -> tuple[int, int]:
        """Return (visits, entries cleared). Clearing an entry drops everything below it."""
        cleared: list[tuple[int, int]] = []

        def visit(gfn: int, level: int, entry: object) -> None:
            if level <= 3 and is_present(entry) and start <= gfn and gfn + SIZE[level] <= end:
                self.put(gfn, level, None)
                cleared.append((gfn, level))

        return self.walk(start, end, visit), len(cleared)

    def zap_trees(self, start: int, end: int) -> tuple[int, int]:
        """As ``zap_subtrees``, at every level, and leaves that stick out too: v5.15 to v5.17."""
        cleared: list[tuple[int, int]] = []
        everything = start == 0 and end >= self.top
        end = min(end, self.top)

        def visit(gfn: int, level: int, entry: object) -> None:
            inside = start <= gfn and gfn + SIZE[level] <= end
            if is_present(entry) and (everything or inside or not isinstance(entry, dict)):
                self.put(gfn, level, None)
                cleared.append((gfn, level))

        return self.walk(start, end, visit), len(cleared)


def level_of(slot: Memslot, gfn: int, vcpu: Vcpu, mask: MtMask, top_level: int = 3) -> int:
    """The largest level that the slot, the host's mapping and KVM's MTRR check allow."""
    for level in range(min(slot.level, top_level), 1, -1):
        first = gfn - gfn % SIZE[level]
        last = first + SIZE[level]
        fits = slot.start <= first and last <= slot.end
        if fits and (not mask.honours or consistent(vcpu.mtrrs, first << 12, last << 12)):
            return level
    return 1


def type_of(slot: Memslot, gfn: int, vcpu: Vcpu, mask: MtMask) -> EptType | None:
    """vmx_get_mt_mask in the order of its tests."""
    host, policy = mask.host, mask.policy
    if not host.ept:
        return None
    if slot.host_mmio:
        return EptType(MemType.UC)
    if not host.noncoherent_dma:
        return EptType(MemType.WB, ipat=True)
    kind = policy.cd_type(quirk=host.quirk_cd_nw_cleared)
    if vcpu.cd and kind is not None:
        return kind
    if not policy.honours_mtrrs:
        return EptType(MemType.WB)
    return EptType(lookup(vcpu.mtrrs, gfn << 12, guest_has_mtrr=host.guest_has_mtrr))
