"""The ghost of *no lost zap* for the compiled search: one word a value, and its steps compiled.

A few vCPUs have thousands of ghost values, and most of what a small search must learn is their
steps. A value is packed into 64 bits, if it fits: for each vCPU the atoms outstanding, then the
vCPUs whose zap counts for them. :class:`properties.lost_zap.LostZap` says what the steps mean.
Values have other numbers here than in the model.
"""

# mypy: disable-error-code="arg-type,call-arg,import-untyped,misc,no-any-return,no-untyped-call"
# mypy: disable-error-code="assignment,return-value,untyped-decorator"

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from mtrrzap.checker import packed_layout as packed
from mtrrzap.checker.ghost import Ghost
from mtrrzap.checker.packed_layout import GhostValues
from mtrrzap.checker.properties import lost_zap
from mtrrzap.checker.properties.lost_zap import LostZap, Value

COUNT, VCPUS, ATOMS = range(3)
CALLED, BEGUN, ENDED, RETURNS = range(4)
_BITS = 64
_MIX = np.uint64(0x9E3779B97F4A7C15)
_FLAG = lost_zap.FLAG


class PackedGhost:
    """The values met so far, and the events, as arrays. The initial value's number is 0."""

    def __init__(self, ghost: LostZap, vcpus: int) -> None:
        self._width = vcpus + ghost.atoms
        sizes = np.array([1, vcpus, ghost.atoms], np.int64)
        none = np.zeros((0, 4), np.int64)
        self.arrays = GhostValues(np.zeros(1, np.uint64), np.zeros(2, np.int32), none, sizes)

    @property
    def known(self) -> int:
        """How many values there are."""
        return int(self.arrays.sizes[COUNT])

    def make_room(self, room: int, events: Sequence[Any]) -> None:
        """Have room for so many values, and know all of the ``events``."""
        if len(events) > len(self.arrays.events):
            rows = np.array(events, np.int64).reshape(-1, 4)
            self.arrays = self.arrays._replace(events=rows)
        if room > len(self.arrays.values):
            before, known = self.arrays.values, self.known
            more, slots = np.zeros(room, np.uint64), np.zeros(2 * room, np.int32)
            self.arrays = self.arrays._replace(values=more, slots=slots)
            self.arrays.sizes[COUNT] = 0
            for word in before[:known]:
                _number(word, self.arrays)

    def number(self, value: Value) -> int:
        """Return a value's number, for which there must be room."""
        width, atoms = self._width, int(self.arrays.sizes[ATOMS])
        shares = (out | ours << atoms for out, ours in value)
        word = sum(share << vcpu * width for vcpu, share in enumerate(shares))
        return int(_number(np.uint64(word), self.arrays))

    def value(self, at: int) -> Value:
        """Return the value with a number."""
        _, vcpus, atoms = self.arrays.sizes.tolist()
        word, width = int(self.arrays.values[at]), self._width
        shares = (word >> vcpu * width & (1 << width) - 1 for vcpu in range(vcpus))
        return tuple((share & (1 << atoms) - 1, share >> atoms) for share in shares)


NOT_COMPILED = GhostValues(
    np.zeros(0, np.uint64), np.zeros(0, np.int32), np.zeros((0, 4), np.int64), np.zeros(3, np.int64)
)
"""Stands for a ghost that only the model can step: its ``COUNT`` is 0."""


def packed_ghost(ghost: Ghost, vcpus: int) -> PackedGhost | None:
    """Return the compiled form of a ghost, or None if it has none."""
    if not isinstance(ghost, LostZap) or vcpus * (vcpus + ghost.atoms) > _BITS:
        return None
    return PackedGhost(ghost, vcpus)


@njit(cache=True)
def _number(word: Any, ghosts: Any) -> int:
    """Return the number of a value, or ``NO_NUMBER`` if it is new and there is no room."""
    mask = len(ghosts.slots) - 1
    at = np.int64((word * _MIX) >> np.uint64(32)) & mask
    while ghosts.slots[at]:
        if ghosts.values[ghosts.slots[at] - 1] == word:
            return ghosts.slots[at] - 1
        at = (at + 1) & mask
    new = ghosts.sizes[COUNT]
    if new == len(ghosts.values):
        return packed.NO_NUMBER
    ghosts.values[new] = word
    ghosts.sizes[COUNT] = new + 1
    ghosts.slots[at] = new + 1
    return new


@njit(cache=True)
def _after(word: Any, event: Any, vcpu: int, vcpus: int, atoms: int) -> Any:
    """Follow one step, as :meth:`LostZap.after` does; return the value, and whether it is lost."""
    width = np.uint64(vcpus + atoms)
    atoms_ = np.uint64(atoms)
    out_mask = (np.uint64(1) << atoms_) - np.uint64(1)
    share_mask = (np.uint64(1) << width) - np.uint64(1)
    me = np.uint64(1) << np.uint64(vcpu + atoms)
    mine = np.uint64(vcpu) * width
    if event[CALLED] >= 0:
        word = (word & ~(share_mask << mine)) | (np.uint64(event[CALLED]) << mine)
    for other in range(vcpus):
        at = np.uint64(other) * width
        share = (word >> at) & share_mask
        if event[BEGUN] >= 0 and share & np.uint64(event[BEGUN]):
            share |= me
        if event[ENDED] >= 0 and share & me:
            share &= ~np.uint64(event[ENDED])
            share = share & ~me if share & out_mask else np.uint64(0)
        word = (word & ~(share_mask << at)) | (share << at)
    lost = False
    if event[RETURNS]:
        lost = (word >> mine) & out_mask != 0
        word &= ~(share_mask << mine)
    return word, lost


@njit(cache=True)
def step(ghost: int, event: int, vcpu: int, ghosts: Any) -> int:
    """Return what the table of events says of a step, or ``UNKNOWN`` if there is no room."""
    _, vcpus, atoms = ghosts.sizes
    word, lost = _after(ghosts.values[ghost], ghosts.events[event], vcpu, vcpus, atoms)
    after = _number(word, ghosts)
    if after == packed.NO_NUMBER:
        return packed.UNKNOWN
    flags = _FLAG << packed.FLAGS_AT if lost else 0
    return flags | (after - ghost) << packed.CHANGE_AT


@njit(cache=True)
def swapped(ghost: int, at: int, ghosts: Any) -> int:
    """Exchange the vCPUs ``at`` and ``at + 1``, as :meth:`LostZap.swapped` does."""
    _, vcpus, atoms = ghosts.sizes
    word, width = ghosts.values[ghost], vcpus + atoms
    bit = np.uint64(at + atoms)
    pair = np.uint64(3) << bit
    share_mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    swapped = np.uint64(0)
    for vcpu in range(vcpus):
        share = (word >> np.uint64(vcpu * width)) & share_mask
        low, high = (share >> bit) & np.uint64(1), (share >> (bit + np.uint64(1))) & np.uint64(1)
        share = (share & ~pair) | low << (bit + np.uint64(1)) | high << bit
        to = at + 1 if vcpu == at else at if vcpu == at + 1 else vcpu
        swapped |= share << np.uint64(to * width)
    return _number(swapped, ghosts)


@njit(cache=True)
def key(ghost: int, vcpu: int, ghosts: Any) -> int:
    """Return what vCPUs are sorted by, as :meth:`LostZap.key` does."""
    _, vcpus, atoms = ghosts.sizes
    word, width = ghosts.values[ghost], vcpus + atoms
    mine = counted = 0
    share = np.int64((word >> np.uint64(vcpu * width)) & np.uint64((1 << width) - 1))
    for other in range(vcpus):
        mine += np.int64((word >> np.uint64(other * width + atoms + vcpu)) & np.uint64(1))
        counted += (share >> (atoms + other)) & 1
    return ((share & ((1 << atoms) - 1)) << 8 | counted << 4 | mine) & 0x7FFFFFFF
