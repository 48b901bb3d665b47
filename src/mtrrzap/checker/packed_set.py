"""The set of states seen: exact, and in four bytes a slot where that is enough.

A state of few bits is hashed by a permutation of all numbers of so many bits. The hash's high bits
are the slot that the search for it starts from. So a slot need only contain the low bits, and its
distance from there (Cleary's compact hash table, 1984, with the distance written out). A table
twice as big has one bit more for the slot: doubling it moves each state by its old bits alone, in
order, without hashing it again.

A state's second word, if it has one, is mixed into the first before the permutation, and stands as
it is beside the slot.
"""

# mypy: disable-error-code="arg-type,call-arg,import-untyped,misc,no-any-return,no-untyped-call"
# mypy: disable-error-code="assignment,call-overload,return-value,untyped-decorator"

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from mtrrzap.checker.packed_layout import ONE, ZERO, U

MIX_ONE, MIX_TWO = U(0xBF58476D1CE4E5B9), U(0x94D049BB133111EB)
MIX_HIGH = U(0x9E3779B97F4A7C15)
MET = U(1 << 63)

NARROW, WIDE = 32, 64
LEAST_BITS = 40
"""Of a hash. A state may have fewer bits, and then its hash does not change when it has more."""
DISTANCE_BITS = 8
"""At least so many bits of a narrow slot are left for the distance."""
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
def _hash(states: Any, at: int, words: Any, half: int, mask: int) -> int:
    """Permute a state's first word, by way of its second."""
    x = states[U(len(words)) * at]
    if len(words) == 2:
        high = states[U(2) * at + ONE] * MIX_HIGH
        x ^= (high ^ (high >> U(32))) & mask
    x = (x * MIX_ONE) & mask
    return ((x ^ (x >> half)) * MIX_TWO) & mask


@njit(cache=True, inline="always")
def _split(hashing: Any) -> Any:
    """Return, of (hash bits, slot bits, width): bits left of a hash, of a distance; the limit."""
    bits, slot_bits, width = hashing
    left = bits - slot_bits
    distance = width - left
    return left, distance, min(U(FARTHEST), (ONE << distance) - U(2))


@njit(cache=True)
def sift(batch: Any, made: int, fresh: Any, hashes: Any, seen: Any, words: Any) -> Any:
    """Drop most of the states that were met a moment ago; return how many are left.

    Most successors were, by another order of the same steps. ``recent`` has the last state that
    fell into each of its slots, and stays in the processor's second cache.
    """
    recent, width = seen.recent, U(len(words))
    bits = seen.hashing[0]
    half, mask = bits >> ONE, (ONE << bits) - ONE
    left, _, _ = _split(seen.hashing)
    shift = bits - U(RECENT_BITS)
    met = ZERO
    for i in range(U(made)):
        x = _hash(batch, i, words, half, mask)
        slot = width * (x >> shift)
        known = recent[slot] == x | MET
        recent[slot] = x | MET
        _fetch(seen.table, width * (x >> left))
        if len(words) == 2:
            high = batch[U(2) * i + ONE]
            known = known and recent[slot + ONE] == high
            recent[slot + ONE] = fresh[U(2) * met + ONE] = high
        fresh[width * met], hashes[met] = batch[width * i], x
        met += U(not known)
    return np.int64(met)


@njit(cache=True)
def insert(
    fresh: Any, hashes: Any, met: int, states: Any, seen: Any, count: int, words: Any
) -> Any:
    """Put states into the table; return how many states there are then, and whether all went in."""
    table, width = seen.table, U(len(words))
    left, distance, farthest = _split(seen.hashing)
    low = (ONE << left) - ONE
    to = U(count)
    for i in range(U(met)):
        x = hashes[i]
        first = x >> left
        at, wanted = first, ((x & low) << distance) + ONE
        there = U(table[width * at])
        while (
            there != wanted or (len(words) == 2 and table[U(2) * at + ONE] != fresh[U(2) * i + ONE])
        ) and there != ZERO:
            at += ONE
            wanted += ONE
            there = U(table[width * at])
        if at - first > farthest:
            return np.int64(to), False
        # Written also if it is there already: whether it is new is hard to predict.
        table[width * at] = wanted
        states[width * to] = fresh[width * i]
        if len(words) == 2:
            table[U(2) * at + ONE] = states[U(2) * to + ONE] = fresh[U(2) * i + ONE]
        to += U(there == ZERO)
    return np.int64(to), True


@njit(cache=True)
def rebuild(states: Any, count: int, seen: Any, words: Any) -> bool:
    """Fill an empty table with the first ``count`` states; say whether all went in."""
    bits = seen.hashing[0]
    half, mask = bits >> ONE, (ONE << bits) - ONE
    left, _, _ = _split(seen.hashing)
    hashes, none = np.empty(256, np.uint64), np.empty(len(words) * 257, np.uint64)
    for start in range(0, count, 256):
        some = min(256, count - start)
        for i in range(some):
            hashes[i] = _hash(states, U(start + i), words, half, mask)
            _fetch(seen.table, U(len(words)) * (hashes[i] >> left))
        if not insert(states[len(words) * start :], hashes, some, none, seen, 0, words)[1]:
            return False
    return True


@njit(cache=True)
def double(seen: Any, words: Any) -> bool:
    """Make a table twice as big where it is; say whether that went well.

    Moved from the end, piece by piece, states only meet states that are moved already.
    """
    table, hashing, width = seen.table, seen.hashing, U(len(words))
    _, distance, _ = _split(hashing)
    now_left, now_distance, farthest = _split((hashing[0], hashing[1] + ONE, hashing[2]))
    low = (ONE << now_left) - ONE
    before = 1 << np.int64(hashing[1])
    piece, places = np.empty(len(words) * (PIECE + 1), np.uint64), np.empty(PIECE + 1, np.uint64)
    end = before + MARGIN
    while end > 0:
        start = max(0, end - PIECE)
        taken = ZERO
        for i in range(U(start), U(end)):  # apart, as no processor foresees which slots are taken
            there = U(table[width * i])
            piece[width * taken], places[taken] = there, i
            if len(words) == 2:
                piece[U(2) * taken + ONE] = table[U(2) * i + ONE]
            taken += U(there != ZERO)
            table[width * i] = 0
        for i in range(taken):
            there = piece[width * i]
            away = (there & ((ONE << distance) - ONE)) - ONE
            rest = there >> distance
            first = (places[i] - away) << ONE | rest >> now_left
            at, wanted = first, ((rest & low) << now_distance) + ONE
            if at < U(start):
                return False
            while table[width * at]:
                at += ONE
                wanted += ONE
            if at - first > farthest:
                return False
            table[width * at] = wanted
            if len(words) == 2:
                table[U(2) * at + ONE] = piece[U(2) * i + ONE]
        end = start
    return True
