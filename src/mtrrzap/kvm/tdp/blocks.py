"""Which leaf a page fault installs: its level and its memory type.

``kvm_tdp_page_fault`` clamps the level by the guest's MTRRs, ``kvm_mmu_hugepage_adjust`` by the
memslot (a huge page lies inside it) and by the host's own mapping; ``make_spte`` takes the type of
the leaf's first frame (v6.1 to v6.10).

A level that is allowed for a block is allowed for every smaller block in it, so a memslot falls
into blocks of one vCPU that do not depend on the order of the faults.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from mtrrzap.kvm.mtmask import HugePages, MtMask, TypedRange
from mtrrzap.kvm.tdp.levels import TOP_LEAF, down, frames, up
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.x86.ept import EptType


class Memslot(NamedTuple):
    """Guest frames ``[start, end)`` that the host backs.

    ``level`` is the largest page that the host maps there (1: 4 KiB, 2: 2 MiB, 3: 1 GiB), aligned
    as the guest's frames are; ``host_mmio`` marks a passed-through device's registers.
    """

    start: int
    end: int
    level: int = TOP_LEAF
    host_mmio: bool = False


class LeafRun(NamedTuple):
    """Neighbouring leaves of one level and one type; the ends are aligned to the level."""

    start: int
    end: int
    level: int
    type: EptType | None


def disjoint(slots: Iterable[Memslot]) -> tuple[Memslot, ...]:
    """Return memslots in order; what two of them claim is left to the one that starts first."""
    found: list[Memslot] = []
    for slot in sorted(slots):
        start = max(slot.start, found[-1].end) if found else slot.start
        if start < slot.end:
            found.append(slot._replace(start=start))
    return tuple(found)


class Leaves:
    """The leaves that one vCPU's faults install, for several memslots."""

    def __init__(self, vcpu: Vcpu, mask: MtMask) -> None:
        self._vcpu = vcpu
        self._mask = mask
        self._ram = tuple(mask.stretches(vcpu))

    @cached_property
    def _huge(self) -> HugePages:
        return HugePages(self._mask, self._vcpu)

    def runs(self, slot: Memslot) -> Iterator[LeafRun]:
        """Yield the leaves that it installs if it touches every frame of a memslot."""
        stretches = self._ram
        if slot.host_mmio:
            stretches = tuple(self._mask.stretches(self._vcpu, host_mmio=True))
        levels: Iterable[tuple[int, int, int]] = [(slot.start, slot.end, 1)]
        if slot.level > 1:
            edges = sorted(edge for edge in self._huge.edges if slot.start < edge < slot.end)
            levels = _levels(slot.start, slot.end, slot.level, edges, self._huge.allowed)
        return _typed(levels, iter(stretches))


def _levels(
    start: int, end: int, level: int, edges: list[int], allowed: Callable[[int, int], bool]
) -> Iterator[tuple[int, int, int]]:
    """Yield ``(start, end, level)``: the largest leaves that fit and are allowed, ascending."""
    first, last = up(start, level), down(end, level)
    if level == 1 or first >= last:
        if level == 1:
            yield start, end, 1
        else:
            yield from _levels(start, end, level - 1, edges, allowed)
        return
    if start < first:
        yield from _levels(start, first, level - 1, edges, allowed)
    # A block with an edge inside is asked for alone; of the others between two edges, one.
    cuts = {first, last}
    for edge in edges:
        cuts.update(cut for cut in (down(edge, level), up(edge, level)) if first < cut < last)
    ordered = sorted(cuts)
    for a, b in itertools.pairwise(ordered):
        if allowed(a, frames(level)):
            yield a, b, level
        else:
            yield from _levels(a, b, level - 1, edges, allowed)
    if last < end:
        yield from _levels(last, end, level - 1, edges, allowed)


def _typed(
    levels: Iterable[tuple[int, int, int]], stretches: Iterator[TypedRange]
) -> Iterator[LeafRun]:
    """Cut runs of one level where the type of a leaf's first frame changes; join equal ones."""
    stretch = next(stretches)
    pending: LeafRun | None = None
    for run_start, run_end, level in levels:
        start = run_start
        while start < run_end:
            while stretch.end <= start:
                stretch = next(stretches)
            end = min(run_end, up(stretch.end, level))
            run = LeafRun(start, end, level, stretch.type)
            if pending is not None and pending[1:] == (start, level, run.type):
                pending = pending._replace(end=end)
            else:
                if pending is not None:
                    yield pending
                pending = run
            start = end
    if pending is not None:
        yield pending
