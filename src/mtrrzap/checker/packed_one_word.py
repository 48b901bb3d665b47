"""The quick inner loop: that of :mod:`kernel` for states of one word, without symmetry.

A successor is the state plus three changes, looked up and shifted into place. There is nothing to
unpack and next to nothing to decide: a blocked step writes its successor where the next one will,
and what is unusual (a flag, a hole in the tables) only leaves a bit, for which the state is looked
at again by the other loop. States go into the table of :mod:`visited` in batches.
"""

# mypy: disable-error-code="arg-type,call-arg,import-untyped,misc,no-any-return,no-untyped-call"
# mypy: disable-error-code="return-value,untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from mtrrzap.checker import packed_general as kernel
from mtrrzap.checker import packed_ghost as ghosts
from mtrrzap.checker import visited

# All numbers are unsigned, as in :mod:`visited`.
U = np.uint64
ZERO, ONE = U(0), U(1)
ENABLED, UNKNOWN = U(kernel.ENABLED), U(kernel.UNKNOWN)
FLAGS_AT, FLAGS_MASK = U(kernel.FLAGS_AT), U(kernel.FLAGS_MASK << kernel.FLAGS_AT)
UNUSUAL = UNKNOWN | FLAGS_MASK
EVENT_AT, EVENT_MASK = U(kernel.EVENT_AT), U(kernel.EVENT_MASK)
SIGNED_LOCAL_AT, SIGNED_CHANGE_AT = np.int64(kernel.LOCAL_AT), np.int64(kernel.CHANGE_AT)

SHIFT_MASK, MASK_MASK = U(63), U((1 << kernel.VALUE_BITS) - 1)
MASK_AT, ROW_AT, MORE_AT = U(kernel.MASK_AT), U(kernel.ROW_AT), U(kernel.MORE_AT)
ROW_MASK = U((1 << 36) - 1)

BATCH = kernel.BATCH


@njit(cache=True, inline="always")
def _expand(state: int, made: int, batch: Any, shape: Any, tables: Any) -> Any:
    """Append every successor; return how many there are, and what was unusual."""
    vcpus, most, local_bits, ghost_at, stride = shape
    choices, effects, events, _ = tables
    seen, shift = ZERO, ZERO
    row = (state << ONE >> (ghost_at + ONE)) * stride
    local_mask = (ONE << local_bits) - ONE
    for vcpu in range(vcpus):
        at = ((state >> shift) & local_mask) * most
        more = ONE
        while more:
            option = choices[at]
            value_at = option & SHIFT_MASK
            value = (state >> value_at) & (option >> MASK_AT & MASK_MASK)
            effect_at = (option >> ROW_AT & ROW_MASK) + value
            effect = effects[effect_at, ONE]
            event = np.int64(events[row + (effect >> EVENT_AT & EVENT_MASK) + vcpu])
            after = state + (U(np.int64(effect) >> SIGNED_LOCAL_AT) << shift)
            after += effects[effect_at, ZERO] << value_at
            after += U(event >> SIGNED_CHANGE_AT) << ghost_at
            batch[made] = after
            made += effect & ENABLED
            seen |= effect | U(event)
            more = option >> MORE_AT
            at += ONE
        shift += local_bits
    return made, seen & UNUSUAL


@njit(cache=True)
def _look(
    state: int, here: int, shape: Any, tables: Any, compiled: Any, violations: Any, asked: Any,
    control: Any,
) -> bool:  # fmt: skip
    """Note the flags that a state raises, or ask what it takes to know; say whether it asked."""
    vcpus, most, local_bits, ghost_at, stride = shape
    choices, effects, events, _ = tables
    words, slots, rows, sizes = compiled
    flags, shift, before = ZERO, ZERO, control[kernel.ASKED]
    ghost = state << ONE >> (ghost_at + ONE)
    for vcpu in range(vcpus):
        local = (state >> shift) & ((ONE << local_bits) - ONE)
        shift += local_bits
        for choice in range(most):
            option = choices[local * most + choice]
            value = (state >> (option & SHIFT_MASK)) & (option >> MASK_AT & MASK_MASK)
            effect = effects[(option >> ROW_AT & ROW_MASK) + value, ONE]
            event = effect >> EVENT_AT & EVENT_MASK
            at = ghost * stride + event + vcpu
            number = np.int64(event) // np.int64(vcpus) - 1
            if effect & UNKNOWN:
                kernel.ask(asked, control, kernel.MISS_ENTRY, local, choice, value)
            elif events[at] & kernel.UNKNOWN:
                if sizes[ghosts.COUNT] and number < len(rows):
                    events[at] = ghosts.step(
                        np.int64(ghost), number, np.int64(vcpu), words, slots, rows, sizes
                    )
                if events[at] & kernel.UNKNOWN:
                    kernel.ask(asked, control, kernel.MISS_EVENT, ghost, number, vcpu)
            flags |= (effect | U(events[at])) & FLAGS_MASK
            if not option >> MORE_AT:
                break
    if control[kernel.ASKED] > before:
        return True
    kernel.note(np.int64(flags >> FLAGS_AT), here, violations, control)
    return False


@njit(cache=True, inline="always")
def _is_over(state: int, shape: Any, finished: Any) -> bool:
    vcpus, _, local_bits, _, _ = shape
    for vcpu in range(vcpus):
        if not finished[(state >> (vcpu * local_bits)) & ((ONE << local_bits) - ONE)]:
            return False
    return True


@njit(cache=True)
def _known(
    state: int, here: int, made: int, batch: Any, shape: Any, tables: Any, compiled: Any,
    violations: Any, asked: Any, control: Any,
) -> Any:  # fmt: skip
    """Append every successor, and note every flag; return how many there are, or ask."""
    while True:
        more, seen = _expand(state, made, batch, shape, tables)
        if not seen & ~(U(control[kernel.RAISED]) << FLAGS_AT):
            return more, True
        if _look(state, here, shape, tables, compiled, violations, asked, control):
            return made, False


@njit(cache=True)
def search(
    states: Any, levels: Any, table: Any, recent: Any, hashing: Any, shape: Any, tables: Any,
    compiled: Any, violations: Any, asked: Any, control: Any,
) -> int:  # fmt: skip
    """Expand states from ``control[AT]`` on; return why it stopped."""
    room = BATCH * np.int64(shape[0] * shape[1]) + 1
    batch, fresh = np.empty(room, np.uint64), np.empty(room, np.uint64)
    hashes = np.empty(room, np.uint64)
    at, count = control[kernel.AT], control[kernel.COUNT]
    status = kernel.DONE
    while at < count and status == kernel.DONE:
        kernel.enter_level(at, count, levels, control)
        status = kernel.why_stop(at, count, room, control)
        start, stop = at, min(at + BATCH, control[kernel.LEVEL_END])
        made = ZERO
        for here in range(start, stop if status == kernel.DONE else start):
            state = states[here]
            more, seen = _expand(state, made, batch, shape, tables)
            if seen & ~(U(control[kernel.RAISED]) << FLAGS_AT):
                more, known = _known(
                    state, here, made, batch, shape, tables, compiled, violations, asked, control
                )
                if not known:
                    status = kernel.MISS
            if status == kernel.MISS:  # look only what else this batch will ask for
                continue
            if more == made and not _is_over(state, shape, tables[3]):
                kernel.note(kernel.DEADLOCK, here, violations, control)
            made = more
            at = here + 1
        met = visited.sift(batch, made, fresh, hashes, recent, table, hashing)
        count, whole = visited.insert(fresh, hashes, met, states, table, hashing, count)
        if not whole:  # again, once the table has grown
            at, status = start, kernel.GROW
            continue
        control[kernel.TRANSITIONS] += np.int64(made)
    control[kernel.AT], control[kernel.COUNT] = at, count
    return status


@njit(cache=True)
def predecessor(
    states: Any, first: int, stop: int, to: int, shape: Any, tables: Any, compiled: Any,
    violations: Any, asked: Any, control: Any,
) -> int:  # fmt: skip
    """Return the first of the states from ``first`` to ``stop`` that leads to ``to``, or -1."""
    batch = np.empty(np.int64(shape[0] * shape[1]) + 1, np.uint64)
    wanted = states[to]
    for here in range(first, stop):
        made, known = _known(
            states[here], here, ZERO, batch, shape, tables, compiled, violations, asked, control
        )
        if not known:
            return -1
        for i in range(made):
            if batch[i] == wanted:
                return here
    return -1
