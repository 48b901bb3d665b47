"""How the compiled search packs a state, and the arrays that its functions share.

A state is one or two 63-bit words of fields: first the vCPUs' local states, then the values of the
shared objects, last the ghost's value. Lower fields come first; a field that does not fit in the
first word goes to the second. A step adds a difference to each field that it changes, so nothing is
unpacked to make a successor.
"""

# mypy: disable-error-code="misc,no-untyped-call,untyped-decorator,arg-type,no-any-return"

from typing import Any, NamedTuple

import numpy as np
from numba import njit

U = np.uint64
"""All numbers of the loop are unsigned: an index that cannot be negative needs no test for it, and
numba computes with floats where a constant has another type."""
ZERO, ONE = U(0), U(1)

WORD_BITS = 63
LOCAL_BITS, VALUE_BITS, EVENT_BITS, GHOST_BITS = 20, 20, 16, 24
"""The most bits that a number of each kind may have."""

# What an alternative does is two numbers: the difference of the value; and, from the low end,
# whether it is enabled, its flags, whether it is still unknown, where its event is in a ghost's
# row, the difference of the local state. A blocked one is all 0, as is event 0.
ENABLED, UNKNOWN = 1, 1 << 6
FLAGS_AT, EVENT_AT, LOCAL_AT = 1, 8, 40
FLAGS = 5
FLAGS_MASK, EVENT_MASK = (1 << FLAGS) - 1, (1 << 32) - 1
# What an event does to the ghost: flags and UNKNOWN as above, then the difference of its number.
CHANGE_AT = 7
# An alternative of a local state: where its object's value is in a word, how wide, the first row of
# its effects, in which word, whether there is another alternative.
MASK_AT, ROW_AT, WORD_AT, MORE_AT = 6, 26, 62, 63

NO_NUMBER = -1
UNKNOWN_EFFECT, UNKNOWN_EVENT, UNKNOWN_SWAP, UNKNOWN_KEY = range(4)
"""Kinds of questions that only the model can answer."""

AT, COUNT, TRANSITIONS, SLOTS, LEVEL_END, DEPTH, WANTED, PAUSE_AT, RAISED, ASKED = range(10)
GROW_AT, CONTROLS = 10, 11
"""The numbers in :attr:`Notes.control`."""


class StateLayout(NamedTuple):
    """Where the fields of a state are."""

    words: tuple[int, ...]
    """One item a word: a tuple's length is a constant of the compiled code, so that the code for
    one word has no trace of the second."""
    vcpus: Any
    low_vcpus: Any
    """vCPUs whose local state is in the first word."""
    local_bits: Any
    ghost_word: Any
    ghost_at: Any
    """The ghost's shift. It is the last field of its word."""
    most: Any
    """The most alternatives that a local state has."""
    stride: Any
    """Length of a ghost's row of events."""


class Lookups(NamedTuple):
    """What a step does, as tables."""

    alternatives: Any
    effects: Any
    events: Any
    finished: Any
    runs: Any
    """First and last of each run of interchangeable vCPUs; none without symmetry."""
    swaps: Any
    """For a ghost and a vCPU, the ghost with this vCPU and the next exchanged."""
    keys: Any
    """For a ghost and a vCPU, what interchangeable vCPUs in equal local states are sorted by."""
    alone: Any
    """Whether a vCPU in a local state goes on alone; empty in a search that is not reduced."""


class GhostValues(NamedTuple):
    """The values of a ghost that is compiled, by number; their hash table; the events; sizes."""

    values: Any
    slots: Any
    events: Any
    sizes: Any


class Notes(NamedTuple):
    """What the loop writes: first violations, questions, and its counters."""

    violations: Any
    asked: Any
    control: Any
    ranks: Any
    """Room to sort vCPUs in."""


class SeenStates(NamedTuple):
    """The hash table of :mod:`packed_set`."""

    table: Any
    recent: Any
    hashing: Any


def fields_for(rooms: list[int]) -> tuple[Any, int]:
    """Place fields of the given sizes in one word, or in two: rows of (word, shift, mask)."""
    used = [0, 0]
    rows = []
    for width in [max(0, (room - 1).bit_length()) for room in rooms]:
        word = 0 if used[0] + width <= WORD_BITS else 1
        rows.append((word, used[word], (1 << width) - 1))
        used[word] += width
    if used[1] > WORD_BITS:
        raise OverflowError("a state does not fit in two words")
    return np.array(rows, np.int64), 2 if used[1] else 1


@njit(cache=True, inline="always")
def load(states: Any, at: Any, words: Any) -> Any:
    """Return both words of a state; the second is 0 if there is none."""
    if len(words) == 1:
        return states[at], ZERO
    return states[U(2) * U(at)], states[U(2) * U(at) + ONE]


@njit(cache=True, inline="always")
def store(states: Any, at: Any, low: int, high: int, words: Any) -> None:
    """Put both words of a state in its place."""
    if len(words) == 1:
        states[at] = low
    else:
        states[U(2) * at], states[U(2) * at + ONE] = low, high


@njit(cache=True, inline="always")
def ghost_in(low: int, high: int, layout: Any) -> int:
    """Return the number of a state's ghost value."""
    if len(layout.words) == 2 and layout.ghost_word:
        return high >> layout.ghost_at
    return low >> layout.ghost_at


@njit(cache=True, inline="always")
def local_place(vcpu: int, layout: Any) -> Any:
    """Return whether a vCPU's local state is in the second word, and its shift."""
    if len(layout.words) == 2 and vcpu >= layout.low_vcpus:
        return True, (vcpu - layout.low_vcpus) * layout.local_bits
    return False, vcpu * layout.local_bits


@njit(cache=True)
def repack(old: Any, count: int, words: int, fields: Any, new: Any, now: int, layout: Any) -> None:
    """Copy states from one layout of fields (word, shift, mask) to another, maybe in place."""
    for i in range(count):
        low = high = 0
        for f in range(fields.shape[0]):
            value = (old[words * i + fields[f, 0]] >> fields[f, 1]) & fields[f, 2]
            if layout[f, 0] == 0:
                low |= value << layout[f, 1]
            else:
                high |= value << layout[f, 1]
        new[now * i] = low
        if now == 2:
            new[2 * i + 1] = high
