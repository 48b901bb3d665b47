"""The ghost of *no lost zap* for the compiled search: one word a value, and its steps compiled.

A world of a few vCPUs has thousands of ghost values, and most of what a small search must learn are
their steps. A value is packed into 64 bits, if it fits: for each vCPU the atoms outstanding, then
the vCPUs whose zap counts for them. :class:`properties.lost_zap.LostZap` says what the steps mean;
values get other numbers here than in the model.
"""

# mypy: disable-error-code="arg-type,call-arg,import-untyped,misc,no-any-return,no-untyped-call"
# mypy: disable-error-code="assignment,return-value,untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from mtrrzap.checker import packed_general as kernel
from mtrrzap.checker.ghost import Ghost
from mtrrzap.checker.properties import lost_zap
from mtrrzap.checker.properties.lost_zap import LostZap, Value

COUNT, VCPUS, ATOMS = range(3)
CALLED, BEGUN, ENDED, RETURNS = range(4)
_BITS = 64
_MIX = np.uint64(0x9E3779B97F4A7C15)
_FLAG = lost_zap.FLAG


class Ghosts:
    """The values met so far, and the events, as arrays."""

    def __init__(self, ghost: LostZap, vcpus: int) -> None:
        """Start with the initial value, whose number is 0."""
        self.sizes = np.array([1, vcpus, ghost.atoms], np.int64)
        self._width = vcpus + ghost.atoms
        self.words = np.zeros(1, np.uint64)
        self.slots = np.zeros(2, np.int32)
        self.events = np.zeros((0, 4), np.int64)

    @property
    def known(self) -> int:
        """How many values there are."""
        return int(self.sizes[COUNT])

    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """Return what the compiled functions need."""
        return self.words, self.slots, self.events, self.sizes

    def make_room(self, room: int, events: Sequence[Any]) -> None:
        """Have room for so many values, and know all of the ``events``."""
        if len(events) > len(self.events):
            self.events = np.array(events, np.int64).reshape(-1, 4)
        if room > len(self.words):
            words, self.words = self.words, np.zeros(room, np.uint64)
            self.slots = np.zeros(2 * room, np.int32)
            known, self.sizes[COUNT] = self.known, 0
            for word in words[:known]:
                number(word, self.words, self.slots, self.sizes)

    def number(self, value: Value) -> int:
        """Return a value's number, for which there must be room."""
        width, atoms = self._width, int(self.sizes[ATOMS])
        shares = (out | ours << atoms for out, ours in value)
        word = sum(share << vcpu * width for vcpu, share in enumerate(shares))
        return int(number(np.uint64(word), self.words, self.slots, self.sizes))

    def value(self, at: int) -> Value:
        """Return the value with a number."""
        word, width, atoms = int(self.words[at]), self._width, int(self.sizes[ATOMS])
        shares = (word >> vcpu * width & (1 << width) - 1 for vcpu in range(int(self.sizes[VCPUS])))
        return tuple((share & (1 << atoms) - 1, share >> atoms) for share in shares)


def nothing() -> tuple[Any, Any, Any, Any]:
    """Return the arrays that say that there is no compiled form."""
    none = np.zeros(0, np.uint64), np.zeros(0, np.int32), np.zeros((0, 4), np.int64)
    return (*none, np.zeros(3, np.int64))


def ghosts_for(ghost: Ghost, vcpus: int) -> Ghosts | None:
    """Return the compiled form of a ghost, or None if it has none."""
    if not isinstance(ghost, LostZap) or vcpus * (vcpus + ghost.atoms) > _BITS:
        return None
    return Ghosts(ghost, vcpus)


@njit(cache=True)
def number(word: Any, words: Any, slots: Any, sizes: Any) -> int:
    """Return the number of a value, or -1 if it is new and there is no room."""
    mask = len(slots) - 1
    at = np.int64((word * _MIX) >> np.uint64(32)) & mask
    while slots[at]:
        if words[slots[at] - 1] == word:
            return slots[at] - 1
        at = (at + 1) & mask
    new = sizes[COUNT]
    if new == len(words):
        return -1
    words[new] = word
    sizes[COUNT] = new + 1
    slots[at] = new + 1
    return new


@njit(cache=True)
def _after(word: Any, event: Any, vcpu: int, vcpus: int, atoms: int) -> Any:
    """Follow one step, as :meth:`LostZap.after` does; return the value, and whether it is lost."""
    width = np.uint64(vcpus + atoms)
    atoms_ = np.uint64(atoms)
    out_mask, share_mask = (np.uint64(1) << atoms_) - np.uint64(1), np.uint64(0)
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
def step(ghost: int, event: int, vcpu: int, words: Any, slots: Any, events: Any, sizes: Any) -> int:
    """Return what the table of events says of a step, or ``UNKNOWN`` if there is no room."""
    word, lost = _after(words[ghost], events[event], vcpu, sizes[VCPUS], sizes[ATOMS])
    after = number(word, words, slots, sizes)
    if after < 0:
        return kernel.UNKNOWN
    flags = _FLAG << kernel.FLAGS_AT if lost else 0
    return flags | (after - ghost) << kernel.CHANGE_AT


@njit(cache=True)
def _swapped(word: Any, at: int, vcpus: int, atoms: int) -> Any:
    """Exchange the vCPUs ``at`` and ``at + 1``, as :meth:`LostZap.swapped` does."""
    width = vcpus + atoms
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
    return swapped


@njit(cache=True)
def _key(word: Any, vcpu: int, vcpus: int, atoms: int) -> int:
    """Return what vCPUs are sorted by, as :meth:`LostZap.key` does."""
    width = vcpus + atoms
    mine = counted = 0
    share = np.int64((word >> np.uint64(vcpu * width)) & np.uint64((1 << width) - 1))
    for other in range(vcpus):
        mine += np.int64((word >> np.uint64(other * width + atoms + vcpu)) & np.uint64(1))
        counted += (share >> (atoms + other)) & 1
    return ((share & ((1 << atoms) - 1)) << 8 | counted << 4 | mine) & 0x7FFFFFFF


@njit(cache=True)
def answer(
    asked: Any, count: int, table: Any, stride: int, swaps: Any, keys: Any, words: Any, slots: Any,
    events: Any, sizes: Any,
) -> int:  # fmt: skip
    """Answer what the kernel asked of ghosts; keep the other questions, and return how many."""
    vcpus, atoms = sizes[VCPUS], sizes[ATOMS]
    kept = 0
    for i in range(count):
        kind, a, b, c = asked[i]
        done = False
        if kind == kernel.MISS_EVENT:
            found = step(a, b, c, words, slots, events, sizes)
            done = found != kernel.UNKNOWN
            table[a * stride + (b + 1) * vcpus + c] = found
        elif kind == kernel.MISS_SWAP:
            found = number(_swapped(words[a], b, vcpus, atoms), words, slots, sizes)
            done = found >= 0
            swaps[a * vcpus + b] = found
        elif kind == kernel.MISS_KEY:
            done = True
            for vcpu in range(vcpus):
                keys[a * vcpus + vcpu] = _key(words[a], vcpu, vcpus, atoms)
        if not done:
            asked[kept, 0], asked[kept, 1], asked[kept, 2], asked[kept, 3] = kind, a, b, c
            kept += 1
    return kept
