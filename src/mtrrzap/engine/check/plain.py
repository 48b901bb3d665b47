"""The quick inner loop: that of :mod:`kernel` for states of one word, without symmetry.

A successor is the state plus three changes, looked up and shifted into place. There is nothing to
unpack and next to nothing to decide: a blocked step writes its successor where the next one will,
and what is unusual (a flag, a hole in the tables) only leaves a bit, for which the state is looked
at again by the other loop. A state's slot is fetched into the cache well before it is needed.
"""

# mypy: disable-error-code="arg-type,call-arg,import-untyped,misc,no-any-return,no-untyped-call"
# mypy: disable-error-code="return-value,untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from mtrrzap.engine.check import kernel

# All numbers are unsigned: an index that cannot be negative needs no test for it. A constant of
# another type would make numba compute with floats.
U = np.uint64
ZERO, ONE, HALF = U(0), U(1), U(32)
ENABLED, UNKNOWN = U(kernel.ENABLED), U(kernel.UNKNOWN)
FLAGS_AT, FLAGS_MASK = U(kernel.FLAGS_AT), U(kernel.FLAGS_MASK << kernel.FLAGS_AT)
UNUSUAL = UNKNOWN | FLAGS_MASK
EVENT_AT, EVENT_MASK = U(kernel.EVENT_AT), U(kernel.EVENT_MASK)
SIGNED_LOCAL_AT, SIGNED_CHANGE_AT = np.int64(kernel.LOCAL_AT), np.int64(kernel.CHANGE_AT)
MIX_ONE, MIX_TWO = U(kernel.MIX_ONE & (1 << 64) - 1), U(kernel.MIX_TWO & (1 << 64) - 1)

# An option of a local state: where its object is in a state, how wide, its effects' first row.
SHIFT_MASK = U(63)
MASK_AT, MASK_MASK, ROW_AT = U(6), U((1 << kernel.VALUE_BITS) - 1), U(26)
ROW_MASK = U((1 << 36) - 1)
MORE_AT = U(63)

BATCH = 128


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


@njit(cache=True)
def _keep(
    batch: Any, made: int, origin: Any, slot: Any, states: Any, parents: Any, table: Any,
    slots: int, count: int,
) -> int:  # fmt: skip
    """Insert the batch; return how many states there are then."""
    last = slots - ONE
    for i in range(U(made)):
        x = batch[i] * MIX_ONE
        x = ((x ^ (x >> HALF)) * MIX_TWO) >> HALF
        x = (x * slots) >> HALF
        slot[i] = x
        _fetch(table, x)
    to = U(count)
    for i in range(U(made)):
        state, at = batch[i], slot[i]
        there = table[at]
        while there != state and there != ZERO:
            at = (at + ONE) & last
            there = table[at]
        table[at] = state  # also if it is there: whether it is new is hard to predict
        states[to] = state
        parents[to] = origin[i]
        to += U(there == ZERO)
    return np.int64(to)


@njit(cache=True, inline="always")
def _expand(
    state: int, here: int, made: int, batch: Any, origin: Any, shape: Any, choices: Any,
    effects: Any, events: Any,
) -> Any:  # fmt: skip
    """Append every successor; return how many there are, and what was unusual."""
    vcpus, most, local_bits, ghost_at, stride = shape
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
            event = events[row + (effect >> EVENT_AT & EVENT_MASK) + vcpu]
            after = state + (U(np.int64(effect) >> SIGNED_LOCAL_AT) << shift)
            after += effects[effect_at, ZERO] << value_at
            after += U(np.int64(event) >> SIGNED_CHANGE_AT) << ghost_at
            batch[made], origin[made] = after, here
            made += effect & ENABLED
            seen |= effect | event
            more = option >> MORE_AT
            at += ONE
        shift += local_bits
    return made, seen & UNUSUAL


@njit(cache=True)
def _look(
    state: int, here: int, shape: Any, choices: Any, effects: Any, events: Any, violations: Any,
    asked: Any, control: Any,
) -> bool:  # fmt: skip
    """Note the flags that a state raises, or ask what it takes to know; say whether it asked."""
    vcpus, most, local_bits, ghost_at, stride = shape
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
            follow = events[ghost * stride + event + vcpu]
            if effect & UNKNOWN:
                kernel.ask(asked, control, kernel.MISS_ENTRY, local, choice, value)
            elif follow & UNKNOWN:
                number = np.int64(event) // np.int64(vcpus) - 1
                kernel.ask(asked, control, kernel.MISS_EVENT, ghost, number, vcpu)
            flags |= (effect | follow) & FLAGS_MASK
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
def search(
    states: Any, parents: Any, table: Any, shape: Any, choices: Any, effects: Any, events: Any,
    finished: Any, violations: Any, asked: Any, control: Any,
) -> int:  # fmt: skip
    """Expand states from ``control[AT]`` on; return why it stopped."""
    slots = U(control[kernel.SLOTS])
    room = BATCH * np.int64(shape[0] * shape[1]) + 1
    batch, slot = np.empty(room, np.uint64), np.empty(room, np.uint64)
    origin = np.empty(room, np.uint32)
    at, count = control[kernel.AT], control[kernel.COUNT]
    status = kernel.DONE
    while at < count and status == kernel.DONE:
        if at == control[kernel.LEVEL_END]:
            control[kernel.LEVEL_END] = count
            control[kernel.DEPTH] += 1
        status = kernel.why_stop(at, count, room, parents.shape[0], control)
        stop = min(at + BATCH, control[kernel.LEVEL_END]) if status == kernel.DONE else at
        usual = U(control[kernel.RAISED]) << FLAGS_AT
        made = ZERO
        for here in range(at, stop):
            state = states[here]
            more, seen = _expand(state, here, made, batch, origin, shape, choices, effects, events)
            if seen & ~usual and _look(
                state, here, shape, choices, effects, events, violations, asked, control
            ):
                status = kernel.MISS
            if status == kernel.MISS:  # look only what else this batch will ask for
                continue
            if more == made and not _is_over(state, shape, finished):
                kernel.note(kernel.DEADLOCK, here, violations, control)
            made = more
            at = here + 1
        control[kernel.TRANSITIONS] += np.int64(made)
        count = _keep(batch, made, origin, slot, states, parents, table, slots, count)
    control[kernel.AT], control[kernel.COUNT] = at, count
    return status
