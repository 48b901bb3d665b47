"""What a zap finds in the page table: which pages the guest has touched, and which it uses now.

The *footprint* of a stage is all that the guest has touched so far. It decides which page-table
pages exist, hence how many entries a leaf zap visits. The *working set* is what the running vCPUs
touch again right after a zap. It decides what there is to clear. A trace shows neither, so both are
placed by rule: RAM in blocks of 2 MiB spread evenly over the memslots, emulated devices in blocks
of the hole below 4 GiB that no memslot covers. Visits are then exact (``kvm.tdp``).
"""

from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.gfn import PAGE_SHIFT, Range
from mtrrzap.guest.trace import Header
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.phases import Stage
from mtrrzap.kvm.policy import POLICIES, Walk
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.tdp import Memslot, PageTable
from mtrrzap.kvm.tdp.cost import FIVE_LEVELS_ABOVE
from mtrrzap.kvm.vcpu import power_on
from mtrrzap.simulator.cost_model import Costs

BLOCK = 0x200
"""Frames of a block of 2 MiB, which one page-table page of level 1 maps."""
MAX_BLOCKS = 100_000
"""Blocks that a guest may have touched: those of 86 TiB. More would take minutes."""
GIB = 0x40000
HOLE_END = 0x100000
"""Devices lie below 4 GiB, the last ones (APICs, flash) highest."""


START = {Stage.NOT_RUN: 0x10, Stage.UNPAGED: 0x10, Stage.FIRMWARE: 0x87, Stage.KERNEL: 0x99}
"""The frame where a vCPU starts that a SIPI wakes; a vector names frames below 0x100 only. SeaBIOS:
``BUILD_AP_BOOT_ADDR``; edk2: allocated below ``0x88000``; Linux: its real-mode trampoline,
somewhere below 640 KiB."""
TEXT = 0x1000
"""A kernel's code: Linux starts at 16 MiB (``CONFIG_PHYSICAL_START``) unless KASLR moves it."""


class WalkWork(NamedTuple):
    """What one walk does."""

    visits: int
    cleared: int
    """Present entries that are cleared."""
    freed: int
    """Page-table pages that are freed."""
    levels: int
    """Levels that a walk goes down again after a yield."""


class Footprint:
    """The page tables of a trace's guest at each stage; walks are looked up, never repeated."""

    def __init__(self, header: Header, host: Host, page_level: int, costs: Costs) -> None:
        """``page_level`` is that of the host's pages: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB."""
        self._slots = [Memslot(s.start, s.end, page_level) for s in header.memslots]
        if not self._slots:
            self._slots = [Memslot(0, header.memory >> PAGE_SHIFT, page_level)]
        self._host = host
        self._vcpu = power_on(header.maxphyaddr)
        self._levels = 5 if header.maxphyaddr > FIVE_LEVELS_ABOVE else 4
        self._costs = costs
        low = max(self._slots, key=lambda s: (s.end <= HOLE_END, s.end - s.start))
        self._home = max(low.start, low.end - 1 & -BLOCK)  # firmware: code, stacks and locks
        self._all = {stage: self._table(stage) for stage in Stage}
        self._now = self._touch([0, *self._used(), *self._devices()[:1]])
        self._empty = self._touch([])
        self._known: dict[tuple[Range, Walk, Stage, bool], WalkWork] = {}
        self._visits: dict[tuple[int, int, Stage], int] = {}

    def work(self, r: Range, walk: Walk, stage: Stage, *, touched: bool) -> WalkWork:
        """Return what a walk over a range does; ``touched``: vCPUs ran since the last zap of it.

        Leaves cleared by a leaf zap depend on how many vCPUs run: see ``uses``.
        """
        key = (r, walk, stage, touched)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._work(*key)
        return found

    def uses(self, r: Range, stage: Stage) -> int | None:
        """Return the visits before a leaf zap clears what every vCPU runs on; None: it does not.

        Of a kernel that is its code, the lowest of what all use.
        """
        return self._before(r, TEXT if stage is Stage.KERNEL else self._home, stage)

    def starts(self, r: Range, stage: Stage) -> int | None:
        """Return the visits before it clears the page that a SIPI starts at; None: it does not."""
        return self._before(r, START[stage], stage)

    def _before(self, r: Range, gfn: int, stage: Stage) -> int | None:
        if not r.start <= gfn < r.end:
            return None
        key = (r.start, gfn, stage)
        found = self._visits.get(key)
        if found is None:
            before = Range(r.start, gfn)
            found = self._all[stage].cost(before, Walk.LEAFS).visits if gfn > r.start else 0
            self._visits[key] = found
        return found

    def later(self, stage: Stage | None = None) -> float:
        """Return the cycles of the exits by which marked entries (``Walk.MARK``) get types again.

        Of what running vCPUs use, or of all that the guest has touched by a stage.
        """
        # Each block takes one exit. Over all of them, each page-table page's 512 entries are
        # visited once: recomputed if they are leaves, else marked in turn.
        table = self._now if stage is None else self._all[stage]
        blocks = sum((run.end - run.start + BLOCK - 1) // BLOCK for run in table.leaves())
        return blocks * self._costs.leave + table.pages * 512 * self._costs.visit

    def _work(self, r: Range, walk: Walk, stage: Stage, touched: bool) -> WalkWork:
        if walk not in (Walk.SUBTREES, Walk.TREES):
            return WalkWork(self._all[stage].cost(r, walk).visits, 0, 0, self._levels)
        ran = touched and stage is not Stage.NOT_RUN
        zap = (self._now if ran else self._empty).cost(r, walk)
        return WalkWork(zap.visits, zap.entries, zap.pages, self._levels)

    def _used(self) -> list[int]:
        """Return a frame in each block that running vCPUs use between zaps."""
        return [max(0, self._home - i * BLOCK) for i in range(round(self._costs.again))]

    def _table(self, stage: Stage) -> PageTable:
        if stage is Stage.NOT_RUN:
            return self._touch([])
        gfns = [0, *self._used(), *self._devices()]
        unpaged = stage is Stage.UNPAGED
        blocks = self._costs.unpaged_blocks if unpaged else self._costs.firmware_blocks
        gfns += self._spread(0, HOLE_END, blocks)
        if stage is Stage.KERNEL:
            frames = sum(slot.end - slot.start for slot in self._slots)
            gfns += self._spread(0, 1 << 52, self._costs.kernel_blocks * frames / GIB)
        return self._touch(gfns)

    def _devices(self) -> list[int]:
        """Return one frame in each of the highest blocks below 4 GiB that no memslot covers."""
        starts = [s.start for s in self._slots if s.start < HOLE_END <= s.end]
        top = (min(starts, default=HOLE_END) & -BLOCK) - BLOCK
        return [top - i * BLOCK for i in range(round(self._costs.mmio_blocks))]

    def _spread(self, start: int, end: int, blocks: float) -> list[int]:
        """Return frames in so many blocks, spread evenly over the memslots inside a range."""
        slots = [(max(s.start, start), min(s.end, end)) for s in self._slots if s.start < end]
        total = sum(b - a for a, b in slots if b > a)
        count = min(round(blocks), max(1, total // BLOCK))
        top = 1 << self._host.maxphyaddr - PAGE_SHIFT
        gfns: list[int] = []
        passed, number = 0, 0
        for a, b in slots:
            # No table maps what is beyond the host's MAXPHYADDR.
            inside = min(b, top) - a
            while number < count and number * total // count < passed + inside:
                gfns.append(a + number * total // count - passed)
                number += 1
            if len(gfns) > MAX_BLOCKS:
                raise UserError(
                    f"guest and host have more memory than the {MAX_BLOCKS:,} blocks of the model",
                    mend="leave out modelled figures, or ask for a host of 46 address bits",
                )
            passed += max(0, b - a)
            number = max(number, -(-passed * count // max(total, 1)))
        return gfns

    def _touch(self, gfns: list[int]) -> PageTable:
        table = PageTable(
            self._slots, root_level=self._levels, host_maxphyaddr=self._host.maxphyaddr
        )
        mask = MtMask(POLICIES[0], self._host)
        for gfn in gfns:
            table.fault(gfn, self._vcpu, mask)
        return table
