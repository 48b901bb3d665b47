"""The set of states seen, of one word each: exact, in four bytes a slot where that is enough.

A state of few bits is hashed by a permutation of all numbers of so many bits. The hash's high bits
are the slot that it starts to look from; so a slot need only hold the low bits, and how far it is
from there (Cleary's compact hash table, 1984, with the distance written out). A table twice as big
has one bit more for the slot: doubling it moves everything by its old bits alone, in order.
"""

# mypy: disable-error-code="arg-type,call-arg,import-untyped,misc,no-any-return,no-untyped-call"
# mypy: disable-error-code="assignment,call-overload,return-value,untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# All numbers are unsigned: an index that cannot be negative needs no test for it. A constant of
# another type would make numba compute with floats.
U = np.uint64
ZERO, ONE = U(0), U(1)
MIX_ONE, MIX_TWO = U(0xBF58476D1CE4E5B9), U(0x94D049BB133111EB)
SEEN = U(1 << 63)

NARROW, WIDE = 32, 64
LEAST_BITS = 40
"""Of a hash. A state may have fewer bits, and then its hash does not change when it has more."""
DISTANCE_BITS = 8
"""That a narrow slot has left for the distance, at least."""
FARTHEST = 4000
"""Slots that a state may be away from its first, if there are bits for it: then the table grows."""
MARGIN = 4096
"""Slots beyond the last, for what is away from its first."""
RECENT_BITS = 15
PIECE = 1 << 14


def widths(bits: int, slot_bits: int, most: int) -> tuple[int, int]:
    """Return bits of a table's number of slots, and of a slot, for hashes of ``bits`` bits.

    The slots are at least 2^``slot_bits``, and up to 2^``most`` if that makes them narrow.
    """
    narrow = bits - (NARROW - DISTANCE_BITS)
    if slot_bits < narrow <= most:
        slot_bits = narrow
    return slot_bits, NARROW if slot_bits >= narrow else WIDE


@intrinsic
def _fetch(_: Any, array: Any, index: Any) -> Any:
    """Start to load a cache line, and do not wait for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        bytes_ = ir.IntType(8).as_pointer()
        at = builder.bitcast(builder.gep(view.data, [arguments[1]]), bytes_)
        number = ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [bytes_, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [bytes_], shape)
        builder.call(prefetch, [at, number(1), number(3), number(1)])  # to write, keep, data
        return context.get_dummy_value()

    return types.void(array, index), generate


@njit(cache=True, inline="always")
def _hash(state: int, half: int, mask: int) -> int:
    x = (state * MIX_ONE) & mask
    return ((x ^ (x >> half)) * MIX_TWO) & mask


@njit(cache=True, inline="always")
def _layout(hashing: Any) -> Any:
    """Return, of (hash bits, slot bits, width): bits left of a hash, of a distance; the limit."""
    bits, slot_bits, width = hashing
    left = bits - slot_bits
    distance = width - left
    return left, distance, min(U(FARTHEST), (ONE << distance) - U(2))


@njit(cache=True)
def sift(
    batch: Any, made: int, fresh: Any, hashes: Any, recent: Any, table: Any, hashing: Any
) -> Any:
    """Drop most of the states that were met a moment ago; return how many are left.

    Most successors were, by another order of the same steps. ``recent`` holds the last hash that
    fell into each of its slots, and stays in the processor's second cache.
    """
    bits = hashing[0]
    half, mask = bits >> ONE, (ONE << bits) - ONE
    left, _, _ = _layout(hashing)
    shift = bits - U(RECENT_BITS)
    met = ZERO
    for i in range(U(made)):
        state = batch[i]
        x = _hash(state, half, mask)
        known = recent[x >> shift]
        recent[x >> shift] = x | SEEN
        _fetch(table, x >> left)
        fresh[met], hashes[met] = state, x
        met += U(known != x | SEEN)
    return np.int64(met)


@njit(cache=True)
def insert(
    fresh: Any, hashes: Any, met: int, states: Any, table: Any, hashing: Any, count: int
) -> Any:
    """Put states into the table; return how many states there are then, and whether all went in."""
    left, distance, farthest = _layout(hashing)
    low = (ONE << left) - ONE
    to = U(count)
    for i in range(U(met)):
        x = hashes[i]
        first = x >> left
        at, wanted = first, ((x & low) << distance) + ONE
        there = U(table[at])
        while there != wanted and there != ZERO:
            at += ONE
            wanted += ONE
            there = U(table[at])
        if at - first > farthest:
            return np.int64(to), False
        table[at] = wanted  # also if it is there: whether it is new is hard to predict
        states[to] = fresh[i]
        to += U(there == ZERO)
    return np.int64(to), True


@njit(cache=True)
def rebuild(states: Any, count: int, table: Any, hashing: Any) -> bool:
    """Fill an empty table with the first ``count`` states; say whether all went in."""
    bits = hashing[0]
    half, mask = bits >> ONE, (ONE << bits) - ONE
    left, _, _ = _layout(hashing)
    hashes, none = np.empty(256, np.uint64), np.empty(257, np.uint64)
    for start in range(0, count, 256):
        some = min(256, count - start)
        for i in range(some):
            hashes[i] = _hash(states[start + i], half, mask)
            _fetch(table, hashes[i] >> left)
        if not insert(hashes, hashes, some, none, table, hashing, 0)[1]:
            return False
    return True


@njit(cache=True)
def double(table: Any, hashing: Any) -> bool:
    """Make a table twice as big where it is; say whether that went well.

    Moved from the end, piece by piece, states only meet states that are moved already.
    """
    _, distance, _ = _layout(hashing)
    slot_bits = hashing[1] + ONE
    now_left, now_distance, farthest = _layout((hashing[0], slot_bits, hashing[2]))
    low = (ONE << now_left) - ONE
    before = 1 << np.int64(hashing[1])
    piece, places = np.empty(PIECE, np.uint64), np.empty(PIECE + 1, np.uint64)
    end = before + MARGIN
    while end > 0:
        start = max(0, end - PIECE)
        taken = ZERO
        for i in range(start, end):  # apart, as no processor foresees which slots are taken
            there = U(table[i])
            piece[taken], places[taken] = there, U(i)
            taken += U(there != ZERO)
            table[i] = 0
        for i in range(taken):
            away = (piece[i] & ((ONE << distance) - ONE)) - ONE
            rest = piece[i] >> distance
            first = (places[i] - away) << ONE | rest >> now_left
            at, wanted = first, ((rest & low) << now_distance) + ONE
            if at < U(start):
                return False
            while table[at]:
                at += ONE
                wanted += ONE
            if at - first > farthest:
                return False
            table[at] = wanted
        end = start
    return True
