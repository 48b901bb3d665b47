"""The compiled inner loop of the search: packed states, tabulated effects, one hash table.

A state is packed into one or two 63-bit words. The loop knows nothing of protocols: it looks up
what an alternative of a local state does to a value, and stops with ``MISS`` where the table has no
answer yet. All arrays belong to :mod:`fast`, which fills the tables and makes room.

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

UNKNOWN, BLOCKED = -1, -2
LOCAL_BITS, VALUE_BITS, EVENT_BITS = 20, 20, 16
GHOST_BITS = 24
DEADLOCK = 16
FLAGS = 5

AT, COUNT, TRANSITIONS, SLOTS, LEVEL_END, DEPTH, WANTED, PAUSE_AT, RAISED, KIND, A, B, C = range(13)
CONTROLS = 13

BATCH = 128
EMPTY = -1


@njit(cache=True, inline="always")
def _slot(low: int, high: int, slots: int) -> int:
    x = (low ^ (high * -7046029254386353131)) * -4658895280553007687
    x ^= (x >> 32) & 0xFFFFFFFF
    x *= -7723592293110705685
    x ^= (x >> 29) & 0x7FFFFFFFF
    return x & (slots - 1)


@njit(cache=True)
def insert(table: Any, slots: int, low: int, high: int, words: int) -> bool:
    """Put a state into the hash table; say whether it is new."""
    at = _slot(low, high, slots)
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
def repack(old: Any, count: int, words: int, fields: Any, new: Any, now: int, layout: Any) -> None:
    """Copy states from one layout of fields (word, shift, mask) to another."""
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


@njit(cache=True, inline="always")
def _sort(run: Any, local: Any, key: Any, ghost: int, swaps: Any, vcpus: int) -> int:
    """Insertion-sort interchangeable vCPUs; return the renamed ghost, or -1 - place of a miss."""
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
                if renamed == UNKNOWN:
                    return -1 - (ghost * vcpus + j - 1)
                ghost = renamed
                j -= 1
    return ghost


@njit(cache=True)
def search(
    states: Any, parents: Any, table: Any, words: int, fields: Any, vcpus: int, run: Any,
    options: Any, option_field: Any, option_row: Any, effects: Any, events: Any, stride: int,
    swaps: Any, keys: Any, finished: Any, violations: Any, control: Any,
) -> int:  # fmt: skip
    """Expand states from ``control[AT]`` on; return why it stopped."""
    width = fields.shape[0]
    ghost_field = width - 1
    most = vcpus * option_field.shape[1]
    room = BATCH * most
    batch = np.empty(room * 2, np.int64)
    origin = np.empty(room, np.int64)
    touched = np.empty(room, np.int64)
    value = np.empty(width, np.int64)
    local = np.empty(vcpus, np.int64)
    key = np.empty(vcpus, np.int64)
    value_mask = (1 << VALUE_BITS) - 1
    local_mask = (1 << LOCAL_BITS) - 1
    event_mask = (1 << EVENT_BITS) - 1
    ghost_mask = (1 << GHOST_BITS) - 1
    slots = control[SLOTS]
    count = control[COUNT]
    capacity = parents.shape[0]
    at = control[AT]
    status = DONE
    while at < count:
        if at == control[LEVEL_END]:
            control[LEVEL_END] = count
            control[DEPTH] += 1
        if count + room > capacity or (count + room) * 8 > slots * 5:
            status = GROW
            break
        if at >= control[PAUSE_AT]:
            status = PAUSE
            break
        if control[WANTED] != 0 and control[WANTED] & ~control[RAISED] == 0:
            status = FOUND
            break
        stop = min(at + BATCH, control[LEVEL_END])
        made = 0
        while at < stop:
            before = made
            low = states[words * at]
            high = states[words * at + 1] if words == 2 else 0
            for f in range(width):
                word = low if fields[f, 0] == 0 else high
                value[f] = (word >> fields[f, 1]) & fields[f, 2]
            done = 0
            for vcpu in range(vcpus):
                here = value[vcpu]
                if finished[here]:
                    done += 1
                for choice in range(options[here]):
                    target = option_field[here, choice]
                    effect = effects[option_row[here, choice] + value[target]]
                    if effect == BLOCKED:
                        continue
                    if effect == UNKNOWN:
                        control[KIND] = MISS_ENTRY
                        control[A], control[B], control[C] = here, choice, value[target]
                        status = MISS
                        break
                    flags = effect >> (LOCAL_BITS + VALUE_BITS + EVENT_BITS)
                    event = (effect >> (LOCAL_BITS + VALUE_BITS)) & event_mask
                    ghost = value[ghost_field]
                    if event != 0:
                        follow = events[ghost * stride + (event - 1) * vcpus + vcpu]
                        if follow == UNKNOWN:
                            control[KIND] = MISS_EVENT
                            control[A], control[B], control[C] = ghost, event - 1, vcpu
                            status = MISS
                            break
                        flags |= follow >> GHOST_BITS
                        ghost = follow & ghost_mask
                    there = effect & local_mask
                    stored = (effect >> LOCAL_BITS) & value_mask
                    new_low, new_high = low, high
                    if run.shape[0] == 0:
                        if fields[vcpu, 0] == 0:
                            new_low += (there - here) << fields[vcpu, 1]
                        else:
                            new_high += (there - here) << fields[vcpu, 1]
                    else:
                        for i in range(vcpus):
                            local[i] = value[i]
                            key[i] = keys[ghost * vcpus + i]
                            if key[i] == UNKNOWN:
                                control[KIND] = MISS_KEY
                                control[A], control[B] = ghost, i
                                status = MISS
                        if status == MISS:
                            break
                        local[vcpu] = there
                        ghost = _sort(run, local, key, ghost, swaps, vcpus)
                        if ghost < 0:
                            control[KIND] = MISS_SWAP
                            control[A] = (-1 - ghost) // vcpus
                            control[B] = (-1 - ghost) % vcpus
                            status = MISS
                            break
                        for i in range(vcpus):
                            if fields[i, 0] == 0:
                                new_low += (local[i] - value[i]) << fields[i, 1]
                            else:
                                new_high += (local[i] - value[i]) << fields[i, 1]
                    if fields[target, 0] == 0:
                        new_low += (stored - value[target]) << fields[target, 1]
                    else:
                        new_high += (stored - value[target]) << fields[target, 1]
                    if fields[ghost_field, 0] == 0:
                        new_low += (ghost - value[ghost_field]) << fields[ghost_field, 1]
                    else:
                        new_high += (ghost - value[ghost_field]) << fields[ghost_field, 1]
                    if flags & ~control[RAISED]:
                        for bit in range(FLAGS):
                            if (flags >> bit) & 1 and not (control[RAISED] >> bit) & 1:
                                violations[bit, 0] = at
                                violations[bit, 1] = 1
                        control[RAISED] |= flags
                    batch[2 * made] = new_low
                    batch[2 * made + 1] = new_high
                    origin[made] = at
                    made += 1
                if status == MISS:
                    break
            if status == MISS:
                made = before
                break
            control[TRANSITIONS] += made - before
            if made == before and done < vcpus and not control[RAISED] & DEADLOCK:
                control[RAISED] |= DEADLOCK
                violations[FLAGS - 1, 0] = at
                violations[FLAGS - 1, 1] = 0
            at += 1
        for i in range(made):
            touched[i] = table[words * _slot(batch[2 * i], batch[2 * i + 1], slots)]
        for i in range(made):
            low, high = batch[2 * i], batch[2 * i + 1]
            if (words == 1 and touched[i] == low) or not insert(table, slots, low, high, words):
                continue
            states[words * count] = low
            if words == 2:
                states[2 * count + 1] = high
            parents[count] = origin[i]
            count += 1
        if status == MISS:
            break
    control[AT] = at
    control[COUNT] = count
    return status
