"""The compiled inner loop of the search: states in, successors out, by looking up tables.

The loop knows nothing of protocols. It works on batches, as memory is what such a search waits for:
a batch's slots are fetched while the next states are made. A blocked step writes its successor
where the next one will, so there is next to nothing to decide; what is unusual (a flag, a hole in
the tables) only leaves a bit, for which :func:`_look` goes through the state again. What only the
model can answer is put on a list of questions, and the loop stops with ``MISS``.
"""

# mypy: disable-error-code="arg-type,call-arg,import-untyped,misc,no-any-return,no-untyped-call"
# mypy: disable-error-code="return-value,untyped-decorator"

from typing import Any

import numpy as np
from numba import njit

from mtrrzap.checker import packed_ghost, packed_set
from mtrrzap.checker import packed_layout as packed
from mtrrzap.checker.packed_layout import ONE, ZERO, U, ghost_in, load, local_place, store

DONE, MISS, GROW, PAUSE, FOUND = range(5)
"""Why the loop stopped."""

ENABLED, UNKNOWN = U(packed.ENABLED), U(packed.UNKNOWN)
FLAGS_AT, FLAGS_MASK = U(packed.FLAGS_AT), U(packed.FLAGS_MASK << packed.FLAGS_AT)
UNUSUAL = UNKNOWN | FLAGS_MASK
EVENT_AT, EVENT_MASK = U(packed.EVENT_AT), U(packed.EVENT_MASK)
SIGNED_LOCAL_AT, SIGNED_CHANGE_AT = np.int64(packed.LOCAL_AT), np.int64(packed.CHANGE_AT)

SHIFT_MASK, VALUE_MASK = U(63), U((1 << packed.VALUE_BITS) - 1)
MASK_AT, ROW_AT, WORD_AT = U(packed.MASK_AT), U(packed.ROW_AT), U(packed.WORD_AT)
MORE_AT, ROW_MASK = U(packed.MORE_AT), U((1 << 36) - 1)

DEADLOCK = 16
CHAIN = 64
"""Steps that a vCPU makes alone, at most: then a state is kept, so that no loop is without."""
KEY_BITS = 31
BATCH = 128


@njit(cache=True, inline="always")
def _expand(low: int, high: int, made: int, batch: Any, layout: Any, lookups: Any) -> Any:
    """Append every successor; return how many there are, and what was unusual."""
    alternatives, effects, events = lookups.alternatives, lookups.effects, lookups.events
    two = len(layout.words) == 2
    ghost_high = two and layout.ghost_word != ZERO
    seen = ZERO
    row = ghost_in(low, high, layout) * layout.stride
    local_mask = (ONE << layout.local_bits) - ONE
    for vcpu in range(layout.vcpus):
        local_high, shift = local_place(vcpu, layout)
        at = ((high if local_high else low) >> shift & local_mask) * layout.most
        more = ONE
        while more:
            option = alternatives[at]
            value_at = option & SHIFT_MASK
            value_high = two and option >> WORD_AT & ONE != ZERO
            value = (high if value_high else low) >> value_at & (option >> MASK_AT & VALUE_MASK)
            effect_at = (option >> ROW_AT & ROW_MASK) + value
            effect = effects[effect_at, ONE]
            event = np.int64(events[row + (effect >> EVENT_AT & EVENT_MASK) + vcpu])
            local_change = U(np.int64(effect) >> SIGNED_LOCAL_AT) << shift
            value_change = effects[effect_at, ZERO] << value_at
            ghost_change = U(event >> SIGNED_CHANGE_AT) << layout.ghost_at
            after = low + (ZERO if local_high else local_change)
            after += ZERO if value_high else value_change
            after += ZERO if ghost_high else ghost_change
            after_high = high + (local_change if local_high else ZERO)
            after_high += value_change if value_high else ZERO
            after_high += ghost_change if ghost_high else ZERO
            store(batch, made, after, after_high, layout.words)
            made += effect & ENABLED
            seen |= effect | U(event)
            more = option >> MORE_AT
            at += ONE
    return made, seen & UNUSUAL


@njit(cache=True, inline="always")
def _note(flags: int, at: int, notes: Any) -> None:
    """Keep the first state out of which each flag was raised."""
    for bit in range(packed.FLAGS):
        if (flags >> bit) & 1 and not (notes.control[packed.RAISED] >> bit) & 1:
            notes.violations[bit] = at
    notes.control[packed.RAISED] |= flags


@njit(cache=True)
def _ask(kind: int, a: int, b: int, c: int, notes: Any) -> None:
    """Put a question on the list."""
    at = notes.control[packed.ASKED]
    notes.asked[at, 0], notes.asked[at, 1], notes.asked[at, 2], notes.asked[at, 3] = kind, a, b, c
    notes.control[packed.ASKED] += 1


@njit(cache=True)
def _look(
    low: int, high: int, here: int, layout: Any, lookups: Any, ghosts: Any, notes: Any
) -> bool:
    """Note the flags that a state raises, or ask what it takes to know; say whether it asked."""
    flags, before = ZERO, notes.control[packed.ASKED]
    ghost = ghost_in(low, high, layout)
    for vcpu in range(layout.vcpus):
        local_high, shift = local_place(vcpu, layout)
        local = (high if local_high else low) >> shift & ((ONE << layout.local_bits) - ONE)
        for choice in range(layout.most):
            option = lookups.alternatives[local * layout.most + choice]
            value = high if option >> WORD_AT & ONE else low
            value = value >> (option & SHIFT_MASK) & (option >> MASK_AT & VALUE_MASK)
            effect = lookups.effects[(option >> ROW_AT & ROW_MASK) + value, ONE]
            event = effect >> EVENT_AT & EVENT_MASK
            at = ghost * layout.stride + event + vcpu
            if effect & UNKNOWN:
                _ask(packed.UNKNOWN_EFFECT, local, choice, value, notes)
            elif lookups.events[at] & packed.UNKNOWN:
                number = np.int64(event) // np.int64(layout.vcpus) - 1
                if ghosts.sizes[packed_ghost.COUNT]:
                    lookups.events[at] = packed_ghost.step(
                        np.int64(ghost), number, np.int64(vcpu), ghosts
                    )
                if lookups.events[at] & packed.UNKNOWN:
                    _ask(packed.UNKNOWN_EVENT, ghost, number, vcpu, notes)
            flags |= (effect | U(lookups.events[at])) & FLAGS_MASK
            if not option >> MORE_AT:
                break
    if notes.control[packed.ASKED] > before:
        return True
    _note(np.int64(flags >> FLAGS_AT), here, notes)
    return False


@njit(cache=True)
def _learn_keys(ghost: int, layout: Any, lookups: Any, ghosts: Any, notes: Any) -> bool:
    """Find out what the vCPUs are sorted by; say whether that is known now."""
    if not ghosts.sizes[packed_ghost.COUNT]:
        _ask(packed.UNKNOWN_KEY, ghost, 0, 0, notes)
        return False
    for vcpu in range(np.int64(layout.vcpus)):
        key = packed_ghost.key(ghost, vcpu, ghosts)
        lookups.keys[ghost * np.int64(layout.vcpus) + vcpu] = key
    return True


@njit(cache=True)
def _learn_swap(ghost: int, at: int, layout: Any, lookups: Any, ghosts: Any, notes: Any) -> None:
    """Find out what exchanging two neighbours makes of a ghost, or ask."""
    swapped = packed.NO_NUMBER
    if ghosts.sizes[packed_ghost.COUNT]:
        swapped = packed_ghost.swapped(ghost, at, ghosts)
    if swapped == packed.NO_NUMBER:
        _ask(packed.UNKNOWN_SWAP, ghost, at, 0, notes)
    lookups.swaps[ghost * np.int64(layout.vcpus) + at] = swapped


@njit(cache=True, inline="always")
def _rename(ghost: int, layout: Any, lookups: Any, ghosts: Any, notes: Any) -> Any:
    """Insertion-sort ``notes.ranks``; return the ghost renamed likewise, and whether any moved."""
    ranks, runs, swaps, vcpus = notes.ranks, lookups.runs, lookups.swaps, np.int64(layout.vcpus)
    moved = False
    for run in range(runs.shape[0]):
        for i in range(runs[run, 0] + 1, runs[run, 1] + 1):
            j = i
            while ghost >= 0 and j > runs[run, 0] and ranks[j - 1] > ranks[j]:
                j -= 1
                ranks[j], ranks[j + 1] = ranks[j + 1], ranks[j]
                moved = True
                if swaps[ghost * vcpus + j] == packed.NO_NUMBER:
                    _learn_swap(ghost, j, layout, lookups, ghosts, notes)
                ghost = swaps[ghost * vcpus + j]
    return ghost, moved


@njit(cache=True, inline="always")
def _with_locals(low: int, high: int, layout: Any, ranks: Any) -> Any:
    """Return a state with the local states that ``ranks`` begin with."""
    local_mask = (ONE << layout.local_bits) - ONE
    for vcpu in range(layout.vcpus):
        local_high, shift = local_place(vcpu, layout)
        local = U(ranks[vcpu] >> KEY_BITS) << shift
        if local_high:
            high = high & ~(local_mask << shift) | local
        else:
            low = low & ~(local_mask << shift) | local
    return low, high


@njit(cache=True)
def _sort(batch: Any, made: int, layout: Any, lookups: Any, ghosts: Any, notes: Any) -> bool:
    """Make the successors canonical; say whether all that it takes was known.

    States that differ only in which of some interchangeable vCPUs is which are one state: that in
    which these are sorted by their local state, then by their share of the ghost.
    """
    ranks, keys, vcpus = notes.ranks, lookups.keys, np.int64(layout.vcpus)
    local_mask = (ONE << layout.local_bits) - ONE
    every = True
    for at in range(made):
        low, high = load(batch, at, layout.words)
        ghost = np.int64(ghost_in(low, high, layout))
        if keys[ghost * vcpus] == packed.NO_NUMBER and not _learn_keys(
            ghost, layout, lookups, ghosts, notes
        ):
            every = False
            continue
        for vcpu in range(layout.vcpus):
            local_high, shift = local_place(vcpu, layout)
            local = (high if local_high else low) >> shift & local_mask
            ranks[vcpu] = np.int64(local) << KEY_BITS | keys[ghost * vcpus + np.int64(vcpu)]
        renamed, moved = _rename(ghost, layout, lookups, ghosts, notes)
        if renamed == packed.NO_NUMBER:
            every = False
        elif moved:
            low, high = _with_locals(low, high, layout, ranks)
            change = U(renamed - ghost) << layout.ghost_at
            in_high = len(layout.words) == 2 and layout.ghost_word
            low, high = (low, high + change) if in_high else (low + change, high)
            store(batch, at, low, high, layout.words)
    return every


@njit(cache=True, inline="always")
def _step_alone(low: Any, high: Any, vcpu: int, layout: Any, lookups: Any) -> Any:
    """Return the state after a vCPU's next step, if it goes on alone; and what was unusual.

    It does not where the step raises a flag or changes the ghost: then all is ``ENABLED``.
    """
    local_high, shift = local_place(vcpu, layout)
    local = (high if local_high else low) >> shift & ((ONE << layout.local_bits) - ONE)
    if not lookups.alone[local]:
        return low, high, ENABLED
    option = lookups.alternatives[local * layout.most]
    value_at, value_high = option & SHIFT_MASK, option >> WORD_AT & ONE != ZERO
    value = (high if value_high else low) >> value_at & (option >> MASK_AT & VALUE_MASK)
    effect_at = (option >> ROW_AT & ROW_MASK) + value
    effect = lookups.effects[effect_at, ONE]
    row = ghost_in(low, high, layout) * layout.stride
    event = U(lookups.events[row + (effect >> EVENT_AT & EVENT_MASK) + vcpu])
    if (effect | event) & UNKNOWN:
        return low, high, UNKNOWN
    if event or effect & FLAGS_MASK or not effect & ENABLED:
        return low, high, ENABLED
    local_change = U(np.int64(effect) >> SIGNED_LOCAL_AT) << shift
    value_change = lookups.effects[effect_at, ZERO] << value_at
    low += (ZERO if local_high else local_change) + (ZERO if value_high else value_change)
    high += (local_change if local_high else ZERO) + (value_change if value_high else ZERO)
    return low, high, ZERO


@njit(cache=True)
def _go_on(batch: Any, made: int, layout: Any, lookups: Any, ghosts: Any, notes: Any) -> int:
    """Replace successors by what follows where vCPUs go on alone; return the steps, -1: ask."""
    steps = 0
    for at in range(made):
        low, high = load(batch, at, layout.words)
        for vcpu in range(layout.vcpus):
            length, stop = 0, ZERO
            while length < CHAIN and stop != ENABLED:
                low, high, stop = _step_alone(low, high, vcpu, layout, lookups)
                length += stop == ZERO
                if stop == UNKNOWN and _look(low, high, 0, layout, lookups, ghosts, notes):
                    return -1
            steps += length
        store(batch, at, low, high, layout.words)
    return steps


@njit(cache=True, inline="always")
def _is_over(low: int, high: int, layout: Any, lookups: Any) -> bool:
    for vcpu in range(layout.vcpus):
        local_high, shift = local_place(vcpu, layout)
        local = (high if local_high else low) >> shift & ((ONE << layout.local_bits) - ONE)
        if not lookups.finished[local]:
            return False
    return True


@njit(cache=True)
def _again(
    states: Any, here: int, made: int, batch: Any, layout: Any, lookups: Any, ghosts: Any,
    notes: Any,
) -> Any:  # fmt: skip
    """Append every successor, and note every flag; return how many there are, or ask."""
    low, high = load(states, here, layout.words)
    while True:
        more, seen = _expand(low, high, made, batch, layout, lookups)
        if not seen & ~(U(notes.control[packed.RAISED]) << FLAGS_AT):
            return more, True
        if _look(low, high, here, layout, lookups, ghosts, notes):
            return made, False


@njit(cache=True, inline="always")
def _enter_level(at: int, count: int, levels: Any, control: Any) -> None:
    """Begin the next level if the last is done: ``levels`` has the first state of each."""
    if at == control[packed.LEVEL_END]:
        control[packed.LEVEL_END] = count
        control[packed.DEPTH] += 1
        levels[control[packed.DEPTH]] = at


@njit(cache=True, inline="always")
def _why_stop(at: int, count: int, room: int, control: Any) -> int:
    """Say what must be seen to before the next batch, or ``DONE``."""
    if count + room > control[packed.GROW_AT]:
        return GROW
    if at >= control[packed.PAUSE_AT]:
        return PAUSE
    if control[packed.WANTED] != 0 and control[packed.WANTED] & ~control[packed.RAISED] == 0:
        return FOUND
    return DONE


@njit(cache=True)
def search(
    states: Any, levels: Any, seen: Any, layout: Any, lookups: Any, ghosts: Any, notes: Any
) -> int:
    """Expand states from ``control[AT]`` on; return why it stopped."""
    control = notes.control
    words = layout.words
    room = BATCH * np.int64(layout.vcpus * layout.most) + 1
    batch, fresh = np.empty(len(words) * room, np.uint64), np.empty(len(words) * room, np.uint64)
    hashes = np.empty(room, np.uint64)
    at, count, status = control[packed.AT], control[packed.COUNT], DONE
    while at < count and status == DONE:
        _enter_level(at, count, levels, control)
        status = _why_stop(at, count, room, control)
        start, stop = at, min(at + BATCH, control[packed.LEVEL_END])
        made = ZERO
        for here in range(start, stop if status == DONE else start):
            low, high = load(states, here, words)
            more, unusual = _expand(low, high, made, batch, layout, lookups)
            known = True
            if unusual & ~(U(control[packed.RAISED]) << FLAGS_AT):
                more, known = _again(states, here, made, batch, layout, lookups, ghosts, notes)
            if not known:
                status = MISS
            if status == MISS:  # look only what else this batch will ask for
                continue
            if more == made and not _is_over(low, high, layout, lookups):
                _note(DEADLOCK, here, notes)
            made = more
            at = here + 1
        alone = 0
        if lookups.alone.shape[0]:
            alone = _go_on(batch, made, layout, lookups, ghosts, notes)
        if alone < 0:
            at, status = start, MISS
            continue
        if lookups.runs.shape[0] and not _sort(batch, made, layout, lookups, ghosts, notes):
            at, status = start, MISS
            continue
        met = packed_set.sift(batch, made, fresh, hashes, seen, words)
        count, whole = packed_set.insert(fresh, hashes, met, states, seen, count, words)
        if not whole:  # again, once the table has grown
            at, status = start, GROW
            continue
        control[packed.TRANSITIONS] += np.int64(made) + alone
    control[packed.AT], control[packed.COUNT] = at, count
    return status


@njit(cache=True)
def predecessor(
    states: Any, first: int, stop: int, to: int, layout: Any, lookups: Any, ghosts: Any, notes: Any
) -> int:
    """Return the first of the states from ``first`` to ``stop`` that leads to ``to``, or -1."""
    words = layout.words
    batch = np.empty(len(words) * (np.int64(layout.vcpus * layout.most) + 1), np.uint64)
    wanted = load(states, to, words)
    for here in range(first, stop):
        made, known = _again(states, here, ZERO, batch, layout, lookups, ghosts, notes)
        if known and lookups.runs.shape[0]:
            known = _sort(batch, made, layout, lookups, ghosts, notes)
        if not known:
            return -1
        for i in range(made):
            if load(batch, i, words) == wanted:
                return here
    return -1
