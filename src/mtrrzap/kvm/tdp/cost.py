"""Count what a trace's zaps would visit and clear on a full page table.

The counts assume that before every walk all guest memory is mapped, with pages of one size wherever
the memslots allow it, in one root, without contention. Real tables are emptier, above all when zaps
follow each other closely. So the counts are upper bounds.
"""

from collections.abc import Iterable

from mtrrzap.gfn import PAGE_SHIFT, Range
from mtrrzap.guest.trace import Header
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import POLICIES, Walk
from mtrrzap.kvm.replay import Host, Request
from mtrrzap.kvm.tdp.blocks import Memslot
from mtrrzap.kvm.tdp.table import NOTHING, PageTable, Zap
from mtrrzap.kvm.vcpu import power_on

FIVE_LEVELS_ABOVE = 48
"""Guest MAXPHYADDR, in bits, up to which KVM makes do with four levels (``get_tdp_level``)."""


class FullTable:
    """The page table of a trace's guest, full; walks are counted and change nothing."""

    def __init__(self, header: Header, host: Host, level: int) -> None:
        """``level`` is that of the pages: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB."""
        self._header, self._host, self._level = header, host, level
        self._table = self._full()
        self._known: dict[tuple[Range, Walk], Zap] = {}
        self._left: dict[tuple[tuple[Range, ...], Walk], int] = {}

    def _full(self) -> PageTable:
        header, level = self._header, self._level
        slots = [Memslot(s.start, s.end, level) for s in header.memslots]
        table = PageTable(
            slots or [Memslot(0, header.memory >> PAGE_SHIFT, level)],
            root_level=5 if header.maxphyaddr > FIVE_LEVELS_ABOVE else 4,
            host_maxphyaddr=self._host.maxphyaddr,
        )
        # A vCPU whose MTRRs are disabled may use any size; no cost depends on the types.
        table.fill(power_on(header.maxphyaddr), MtMask(POLICIES[0], self._host))
        return table

    @property
    def leaves(self) -> int:
        """How many leaves there are."""
        return self._table.leaf_count()

    def left(self, ranges: tuple[Range, ...], walk: Walk) -> int:
        """Return the leaves that are still there right after walks over these ranges.

        The table is full before the first walk, not before each: no fault comes in between. A real
        table was at most as full, so this is an upper bound.
        """
        key = (ranges, walk)
        if key not in self._left:
            table = self._full()
            for r in ranges:
                table.zap(r, walk)
            self._left[key] = table.leaf_count()
        return self._left[key]

    def cost(self, requests: Iterable[Request], walk: Walk) -> Zap:
        """Add up the walks of all ranges of all requests."""
        total = NOTHING
        for request in requests:
            for r in request.ranges:
                found = self._known.get((r, walk))
                if found is None:
                    found = self._known[r, walk] = self._table.cost(r, walk)
                total += found
        return total
