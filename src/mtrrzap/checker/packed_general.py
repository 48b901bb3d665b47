"""The compiled inner loop of the search: packed states, tabulated effects, one hash table.

A state is packed into one or two 63-bit words. The loop knows nothing of protocols: it looks up
what an alternative of a local state does to a value, and stops with ``MISS`` where the table has no
answer yet, having looked what the rest of the batch will ask for. All arrays belong to
:mod:`fast`, which fills the tables and makes room.

Successors are made for a batch of states at once, then their hash slots are touched, then they are
inserted: the touches overlap in the memory system, which is what such a search waits for.
"""

# mypy: disable-error-code="misc,no-untyped-call,untyped-decorator,no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

MISS_ENTRY, MISS_EVENT, MISS_SWAP, MISS_KEY = 0, 1, 2, 3
DONE, MISS, GROW, PAUSE, FOUND = 0, 1, 2, 3, 4

# An effect is two numbers: by how much the value changes; and what else happens, from the low end:
# whether it is enabled, its flags, whether it is still to be learned, where its event is in a
# ghost's row, by how much the local state changes. A blocked one is all 0, as is event 0.
ENABLED, UNKNOWN = 1, 1 << 6
FLAGS_AT, EVENT_AT, LOCAL_AT = 1, 8, 40
FLAGS = 5
FLAGS_MASK, EVENT_MASK = (1 << FLAGS) - 1, (1 << 32) - 1
CHANGE_AT = 7  # in the table of events: flags and UNKNOWN as above, then the ghost's change
# An option of a local state: where its object is in a state, how wide, its effects' first row.
MASK_AT, ROW_AT, MORE_AT = 6, 26, 63
NO_NUMBER = -1
LOCAL_BITS, VALUE_BITS, EVENT_BITS, GHOST_BITS = 20, 20, 16, 24
MISSED = -1
DEADLOCK = 16

AT, COUNT, TRANSITIONS, SLOTS, LEVEL_END, DEPTH, WANTED, PAUSE_AT, RAISED, ASKED = range(10)
GROW_AT, CONTROLS = 10, 11

BATCH = 128
PIECE = 1 << 14
EMPTY = 0
TAKEN = -(1 << 63)  # in every state's first word, so that none looks like an empty slot
MIX_HIGH, MIX_ONE, MIX_TWO = -7046029254386353131, -4658895280553007687, -7723592293110705685


@njit(cache=True, inline="always")
def _slot(low: int, high: int, slots: int) -> int:
    """Take the hash's high bits: a table twice as big is then in the same order."""
    x = (low ^ (high * MIX_HIGH)) * MIX_ONE
    x ^= (x >> 32) & 0xFFFFFFFF
    x = ((x * MIX_TWO) >> 32) & 0xFFFFFFFF
    return (x * slots) >> 32


@njit(cache=True)
def insert(table: Any, slots: int, low: int, high: int, words: int) -> bool:
    """Put a state into the hash table; say whether it is new."""
    return _insert_from(_slot(low, high, slots), table, slots, low, high, words)


@njit(cache=True, inline="always")
def _insert_from(at: int, table: Any, slots: int, low: int, high: int, words: int) -> bool:
    if words == 1:
        while True:
            there = table[at]
            if there == low:
                return False
            if there == EMPTY:
                table[at] = low
                return True
            at = (at + 1) & (slots - 1)
    while True:
        there = table[2 * at]
        if there == low and table[2 * at + 1] == high:
            return False
        if there == EMPTY:
            table[2 * at] = low
            table[2 * at + 1] = high
            return True
        at = (at + 1) & (slots - 1)


@njit(cache=True)
def rebuild(states: Any, count: int, table: Any, slots: int, words: int) -> None:
    """Fill an empty hash table with the first ``count`` states."""
    for i in range(count):
        high = states[2 * i + 1] if words == 2 else 0
        insert(table, slots, states[words * i], high, words)


@njit(cache=True)
def double(table: Any, before: int, words: int) -> bool:
    """Make a hash table of ``before`` slots twice as big where it is; say whether that went well.

    A slot's states go to about twice its number: moved from the end, piece by piece, they only meet
    states that are moved already. It fails on a run of taken slots half as long as a piece.
    """
    size = min(PIECE, before)
    piece, which = np.empty(size * words, np.int64), np.empty(size, np.int64)
    for start in range(before - size, -1, -size):
        piece[:] = table[start * words : (start + size) * words]
        table[start * words : (start + size) * words] = EMPTY
        taken = 0
        for i in range(size):  # apart, as no processor foresees which slots are taken
            which[taken] = i
            taken += piece[words * i] != EMPTY
        for i in which[:taken]:
            low, high = piece[words * i], piece[2 * i + 1] if words == 2 else 0
            at = _slot(low, high, 2 * before)
            if at < start:
                return False
            _insert_from(at, table, 2 * before, low, high, words)
    return True


@njit(cache=True)
def repack(old: Any, count: int, words: int, fields: Any, new: Any, now: int, layout: Any) -> None:
    """Copy states from one layout of fields (word, shift, mask) to another, maybe in place."""
    for i in range(count):
        low, high = TAKEN, 0
        for f in range(fields.shape[0]):
            value = (old[words * i + fields[f, 0]] >> fields[f, 1]) & fields[f, 2]
            if layout[f, 0] == 0:
                low |= value << layout[f, 1]
            else:
                high |= value << layout[f, 1]
        new[now * i] = low
        if now == 2:
            new[2 * i + 1] = high


@njit(cache=True, inline="always")
def ask(asked: Any, control: Any, kind: int, a: int, b: int, c: int) -> int:
    """Put a question on the list; return ``MISSED``."""
    at = control[ASKED]
    asked[at, 0], asked[at, 1], asked[at, 2], asked[at, 3] = kind, a, b, c
    control[ASKED] += 1
    return MISSED


@njit(cache=True)
def _canonical(
    local: Any,
    key: Any,
    ghost: int,
    run: Any,
    keys: Any,
    swaps: Any,
    vcpus: int,
    asked: Any,
    control: Any,
) -> int:
    """Insertion-sort interchangeable vCPUs; return the ghost renamed likewise, or ``MISSED``."""
    for i in range(vcpus):
        key[i] = keys[ghost * vcpus + i]
        if key[i] == NO_NUMBER:
            return ask(asked, control, MISS_KEY, ghost, i, 0)
    for r in range(run.shape[0]):
        first = run[r, 0]
        for i in range(first + 1, run[r, 1] + 1):
            j = i
            while j > first and (
                local[j - 1] > local[j] or (local[j - 1] == local[j] and key[j - 1] > key[j])
            ):
                local[j - 1], local[j] = local[j], local[j - 1]
                key[j - 1], key[j] = key[j], key[j - 1]
                renamed = swaps[ghost * vcpus + j - 1]
                if renamed == NO_NUMBER:
                    return ask(asked, control, MISS_SWAP, ghost, j - 1, 0)
                ghost = renamed
                j -= 1
    return ghost


@njit(cache=True, inline="always")
def note(flags: int, at: int, violations: Any, control: Any) -> None:
    """Keep the first state out of which each flag was raised."""
    for bit in range(FLAGS):
        if (flags >> bit) & 1 and not (control[RAISED] >> bit) & 1:
            violations[bit] = at
    control[RAISED] |= flags


@njit(cache=True, inline="always")
def _plus(low: int, high: int, fields: Any, f: int, change: int) -> Any:
    if fields[f, 0] == 0:
        return low + (change << fields[f, 1]), high
    return low, high + (change << fields[f, 1])


@njit(cache=True, inline="always")
def _expand(
    at: int, made: int, value: Any, local: Any, key: Any, batch: Any, fields: Any, vcpus: int,
    run: Any, options: Any, option_field: Any, option_row: Any, effects: Any, events: Any,
    stride: int, swaps: Any, keys: Any, violations: Any, asked: Any, control: Any,
) -> int:  # fmt: skip
    """Append every successor of the state in ``value``; return the new length, or ``MISSED``."""
    last = fields.shape[0] - 1
    low, high = batch[2 * made], batch[2 * made + 1]
    for vcpu in range(vcpus):
        here = value[vcpu]
        for choice in range(options[here]):
            target = option_field[here, choice]
            row = option_row[here, choice] + value[target]
            effect = effects[row, 1]
            if effect == 0:
                continue
            if effect & UNKNOWN:
                return ask(asked, control, MISS_ENTRY, here, choice, value[target])
            event = (effect >> EVENT_AT) & EVENT_MASK
            follow = events[value[last] * stride + event + vcpu]
            if follow & UNKNOWN:
                return ask(asked, control, MISS_EVENT, value[last], event // vcpus - 1, vcpu)
            ghost = value[last] + (follow >> CHANGE_AT)
            one, two = low, high
            if run.shape[0] == 0:
                one, two = _plus(one, two, fields, vcpu, effect >> LOCAL_AT)
            else:
                for i in range(vcpus):
                    local[i] = value[i]
                local[vcpu] += effect >> LOCAL_AT
                ghost = _canonical(local, key, ghost, run, keys, swaps, vcpus, asked, control)
                if ghost == MISSED:
                    return MISSED
                for i in range(vcpus):
                    one, two = _plus(one, two, fields, i, local[i] - value[i])
            one, two = _plus(one, two, fields, target, effects[row, 0])
            one, two = _plus(one, two, fields, last, ghost - value[last])
            batch[2 * made], batch[2 * made + 1] = one, two
            flags = ((effect | follow) >> FLAGS_AT) & FLAGS_MASK
            if flags & ~control[RAISED]:
                note(flags, at, violations, control)
            made += 1
    return made


@njit(cache=True)
def _keep(
    batch: Any, made: int, touched: Any, states: Any, table: Any, slots: int, words: int, count: int
) -> int:  # fmt: skip
    """Insert the batch; return how many states there are then."""
    for i in range(made):
        touched[i] = table[words * _slot(batch[2 * i], batch[2 * i + 1], slots)]
    for i in range(made):
        low, high = batch[2 * i], batch[2 * i + 1]
        if (words == 1 and touched[i] == low) or not insert(table, slots, low, high, words):
            continue
        states[words * count] = low
        if words == 2:
            states[2 * count + 1] = high
        count += 1
    return count


@njit(cache=True, inline="always")
def enter_level(at: int, count: int, levels: Any, control: Any) -> None:
    """Begin the next level if the last is done: ``levels`` has the first state of each."""
    if at == control[LEVEL_END]:
        control[LEVEL_END] = count
        control[DEPTH] += 1
        levels[control[DEPTH]] = at


@njit(cache=True, inline="always")
def why_stop(at: int, count: int, room: int, control: Any) -> int:
    """Say what must be seen to before the next batch, or ``DONE``."""
    if count + room > control[GROW_AT]:
        return GROW
    if at >= control[PAUSE_AT]:
        return PAUSE
    if control[WANTED] != 0 and control[WANTED] & ~control[RAISED] == 0:
        return FOUND
    return DONE


@njit(cache=True, inline="always")
def _is_over(value: Any, vcpus: int, finished: Any) -> bool:
    done = 0
    for vcpu in range(vcpus):
        done += finished[value[vcpu]]
    return done == vcpus


@njit(cache=True, inline="always")
def _load(at: int, to: int, states: Any, words: int, fields: Any, batch: Any, value: Any) -> None:
    """Unpack a state, and put it where its first successor will be."""
    batch[2 * to + 1] = 0
    for word in range(words):
        batch[2 * to + word] = states[words * at + word]
    for f in range(fields.shape[0]):
        value[f] = (batch[2 * to + fields[f, 0]] >> fields[f, 1]) & fields[f, 2]


@njit(cache=True)
def search(
    states: Any, levels: Any, table: Any, words: int, fields: Any, vcpus: int, run: Any,
    options: Any, option_field: Any, option_row: Any, effects: Any, events: Any, stride: int,
    swaps: Any, keys: Any, finished: Any, violations: Any, asked: Any, control: Any,
) -> int:  # fmt: skip
    """Expand states from ``control[AT]`` on; return why it stopped."""
    room = BATCH * vcpus * option_field.shape[1]
    batch = np.zeros(2 * room + 2, np.int64)
    touched, value = np.empty(room, np.int64), np.empty(fields.shape[0], np.int64)
    local, key = np.empty(vcpus, np.int64), np.empty(vcpus, np.int64)
    at, count, status = control[AT], control[COUNT], DONE
    while at < count and status == DONE:
        enter_level(at, count, levels, control)
        status = why_stop(at, count, room, control)
        stop = min(at + BATCH, control[LEVEL_END]) if status == DONE else at
        made = 0
        for here in range(at, stop):
            _load(here, made, states, words, fields, batch, value)
            more = _expand(
                here, made, value, local, key, batch, fields, vcpus, run, options, option_field,
                option_row, effects, events, stride, swaps, keys, violations, asked, control,
            )  # fmt: skip
            if more == MISSED:
                status = MISS
            if status == MISS:  # look only what else this batch will ask for
                continue
            if more == made and not _is_over(value, vcpus, finished):
                note(DEADLOCK, here, violations, control)
            control[TRANSITIONS] += more - made
            made = more
            at = here + 1
        count = _keep(batch, made, touched, states, table, control[SLOTS], words, count)
    control[AT], control[COUNT] = at, count
    return status


@njit(cache=True)
def predecessor(
    states: Any, first: int, stop: int, to: int, words: int, fields: Any, vcpus: int, run: Any,
    options: Any, option_field: Any, option_row: Any, effects: Any, events: Any, stride: int,
    swaps: Any, keys: Any, violations: Any, asked: Any, control: Any,
) -> int:  # fmt: skip
    """Return the first of the states from ``first`` to ``stop`` that leads to ``to``, or -1."""
    batch = np.zeros(2 * vcpus * option_field.shape[1] + 2, np.int64)
    value = np.empty(fields.shape[0], np.int64)
    local, key = np.empty(vcpus, np.int64), np.empty(vcpus, np.int64)
    low, high = states[words * to], states[2 * to + 1] if words == 2 else 0
    for here in range(first, stop):
        _load(here, 0, states, words, fields, batch, value)
        made = _expand(
            here, 0, value, local, key, batch, fields, vcpus, run, options, option_field,
            option_row, effects, events, stride, swaps, keys, violations, asked, control,
        )  # fmt: skip
        for i in range(made):
            if batch[2 * i] == low and batch[2 * i + 1] == high:
                return here
        if made == MISSED:
            return -1
    return -1
