"""What each vCPU's faults may install, per part of memory.

The size of a leaf matters as well as its type: a zap that clears whole entries only (``SUBTREES``)
leaves a huge leaf alone that sticks out of the range. A fault may install any size up to the one
that memslot, host and MTRRs allow. Under ``LEAFS`` whatever overlaps the range goes, so a leaf of
4 KiB survives wherever a larger one does, and it is enough to follow that size.
"""

from collections.abc import Iterable
from functools import reduce
from operator import or_

from mtrrzap.gfn import PAGE_SHIFT, Range
from mtrrzap.guest.trace import Header
from mtrrzap.kvm.audit.parts import Parts
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import Walk
from mtrrzap.kvm.tdp.blocks import LeafRun, Leaves, Memslot, disjoint
from mtrrzap.kvm.tdp.levels import down, up
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.mtrr import Mtrrs

TOP_LEVEL = 4
"""The least level of a root; one of five levels has larger entries still."""

LeafKind = tuple[EptType | None, int]
"""A leaf's type and level."""

View = dict[LeafKind, int]
"""For each kind of leaf, the parts on which a vCPU's fault may install it. Equal views are one
object."""


def memslots(header: Header, mask: MtMask) -> tuple[Memslot, ...]:
    """Return a trace's memslots; without any in its header, all of guest memory is one."""
    level = mask.host.largest_page if mask.policy.walk is Walk.SUBTREES else 1
    top = 1 << (min(mask.host.maxphyaddr, header.maxphyaddr) - PAGE_SHIFT)
    named = [Memslot(s.start, min(s.end, top), level) for s in header.memslots if s.start < top]
    return disjoint(named) or (Memslot(0, top, level),)


_Key = tuple[Mtrrs, bool]
"""MTRRs and CR0.CD."""


class Views:
    """The views of all states of a trace, and the partition that fits them and the zaps."""

    def __init__(
        self,
        slots: tuple[Memslot, ...],
        mask: MtMask,
        states: Iterable[Vcpu],
        zapped: Iterable[Range],
    ) -> None:
        """``states`` are all that occur, ``zapped`` all ranges of requests."""
        self._subtrees = mask.policy.walk is Walk.SUBTREES
        self._marks = mask.policy.walk is Walk.MARK
        self._levels = range(1, mask.host.largest_page + 1) if self._subtrees else range(1, 2)
        # Of CR0 only CD matters.
        distinct = {(state.mtrrs, state.cd): state for state in states}
        runs: dict[_Key, tuple[LeafRun, ...]] = {}
        for key, state in distinct.items():
            leaves = Leaves(state, mask)
            runs[key] = tuple(run for slot in slots for run in leaves.runs(slot))
        edges = {edge for found in set(runs.values()) for run in found for edge in run[:2]}
        for r in zapped:
            for level in self._levels:
                edges.update(self._cut(r, level))
        self.parts = Parts(edges)
        interned: dict[tuple[LeafRun, ...], View] = {}
        self._views: dict[_Key, View] = {}
        self._zapped: dict[tuple[Range, ...], dict[int, int]] = {}
        for key, found in runs.items():
            view = interned.get(found)
            if view is None:
                view = interned[found] = self._view(found)
            self._views[key] = view
        self._memory = sum(self.parts.mask(slot.start, slot.end) for slot in slots)

    def _view(self, runs: tuple[LeafRun, ...]) -> View:
        view: View = {}
        for run in runs:
            mask = self.parts.mask(run.start, run.end)
            for level in range(1, run.level + 1):
                kind = (run.type, level)
                view[kind] = view.get(kind, 0) | mask
        return view

    def of(self, state: Vcpu) -> View:
        """Return the view of a state."""
        return self._views[state.mtrrs, state.cd]

    def zapped(self, ranges: tuple[Range, ...]) -> dict[int, int]:
        """Return, per level, the parts in memslots whose leaves of that level the zaps clear."""
        found = self._zapped.get(ranges)
        if found is None:
            found = self._zapped[ranges] = {
                level: self._memory
                & reduce(or_, (self.parts.mask(*self._cut(r, level)) for r in ranges), 0)
                for level in self._levels
            }
        return found

    def _cut(self, r: Range, level: int) -> tuple[int, int]:
        """Return the frames of a range whose leaves of a level lie inside it.

        Marks are set on top-level entries: all that these cover loses its types.
        """
        if self._marks:
            return down(r.start, TOP_LEVEL), up(r.end, TOP_LEVEL)
        return up(r.start, level), down(r.end, level)
