"""The shared objects: what they do is what the C does."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtrrzap.errors import UserError
from mtrrzap.protocol import (
    ACQUIRE,
    ALL_GFNS,
    PROTOCOLS,
    Atomic,
    Cpu,
    Number,
    Operation,
    Sequence,
    SharedObject,
    Spinlock,
    ZapArray,
    ZapList,
)
from mtrrzap.protocol.load import load
from mtrrzap.protocol.zap_array import merged, pack, unpack

LOCK = Spinlock()
LIST = ZapList(guard=LOCK)
ARRAY = ZapArray(guard=LOCK)


def run(target: SharedObject, *operations: Operation, value: Any = None) -> Any:
    value = target.initial if value is None else value
    for operation in operations:
        ((value, _),) = target.effect(value, operation, 0)
    return value


ranges = st.tuples(st.integers(0, 1 << 51), st.integers(1, 1 << 51)).map(
    lambda pair: (pair[0], pair[0] + pair[1])
)


@given(st.lists(ranges, max_size=8))
def test_the_list_is_ordered_by_length_then_start_descending(items: list[Any]) -> None:
    value = run(LIST, *(LIST.add(*item) for item in items))
    assert value == tuple(sorted(set(items), key=lambda each: (each[1] - each[0], -each[0])))


def test_a_duplicate_is_dropped_and_said_to_be() -> None:
    assert LIST.effect(((1, 2),), LIST.add(1, 2), 0) == ((((1, 2),), False),)
    assert LIST.effect((), LIST.pop_first(), 0) == (((), None),)


@given(ranges)
def test_eight_bytes_hold_the_smallest_block_around_a_range(item: tuple[int, int]) -> None:
    start, end = item
    entry = pack(start, end)
    low, high = unpack(entry)
    size = high - low
    assert entry < 1 << 64
    assert low <= start < end <= high
    assert size & (size - 1) == 0
    assert low % size == 0
    half = size // 2
    assert half == 0 or start // half != (end - 1) // half


@pytest.mark.parametrize(
    ("asked", "block"),
    [
        ((0xC0, 0xC8), (0xC0, 0xC8)),
        ((0x180, 0x280), (0, 0x400)),
        ((0, (1 << 52) - 1), ALL_GFNS),
        ((5, 6), (5, 6)),
    ],
)
def test_blocks(asked: tuple[int, int], block: tuple[int, int]) -> None:
    assert unpack(pack(*asked)) == block


def test_all_fixed_ranges_share_one_entry() -> None:
    value = run(ARRAY, ARRAY.add(0xC0, 0xC8), ARRAY.add(0, 0x80))
    assert merged(value) == ((0, 0x100),)


def test_sixteen_entries_fit_and_a_seventeenth_purges() -> None:
    fixed = ARRAY.add(0, 0x80)
    others = [ARRAY.add(i << 12, (i << 12) + 1) for i in range(1, 17)]
    full = run(ARRAY, fixed, *others[:15])
    assert len(full) == 16
    assert list(full) == sorted(full)
    assert run(ARRAY, others[15], value=full) == (pack(*ALL_GFNS),)
    assert run(ARRAY, *others) == (pack(*ALL_GFNS),)  # the sixteenth place is the fixed MTRRs'


def test_after_a_purge_nothing_more_is_queued() -> None:
    everything = (pack(*ALL_GFNS),)
    assert run(ARRAY, ARRAY.add(1, 2), value=everything) == everything


@given(st.lists(ranges, max_size=20))
def test_the_array_never_loses_a_frame_and_never_grows_beyond_16(items: list[Any]) -> None:
    value = ARRAY.initial
    for item in items:
        operation = ARRAY.add(*item)
        ((after, _),) = ARRAY.effect(value, operation, 0)
        assert ARRAY.problem(value, operation, after) is None
        value = after
    kept = merged(value)
    assert all(any(low <= a and b <= high for low, high in kept) for a, b in items)
    assert all(one[1] < other[0] for one, other in pairwise(kept))


def test_a_lock_serves_its_queue_in_turn() -> None:
    held = run(LOCK, LOCK.lock())
    assert LOCK.effect(held, LOCK.lock(), 1) == ()
    join = Operation(LOCK, "join")
    ((queue, _),) = LOCK.effect(held, join, 1)
    ((queue, _),) = LOCK.effect(queue, join, 0)
    ((free, _),) = LOCK.effect(queue, LOCK.unlock(), 2)
    assert LOCK.effect(free, LOCK.lock(), 0) == ()
    assert LOCK.effect(free, LOCK.lock(), 1) == (((True, (0,)), None),)


def test_an_exchange_stores_only_over_the_old_value() -> None:
    flag = Atomic(0)
    assert flag.effect(0, flag.cmpxchg(0, 1, ACQUIRE), 0) == ((1, 0),)
    assert flag.effect(1, flag.cmpxchg(0, 2), 0) == ((1, 1),)
    assert flag.effect(1, flag.wait_until(0), 0) == ()


def test_a_number_once_reached_stays_reached() -> None:
    done = Sequence(0)
    assert done.effect(Number(3), done.wait_reached(Number(4)), 0) == ()
    assert done.effect(Number(3), done.wait_reached(Number(4), lag=1), 0) == ((Number(3), None),)
    assert done.effect(Number(9), done.reached(Number(4)), 0) == ((Number(9), True),)


def test_operations_read_like_the_c() -> None:
    flag = Atomic(0)
    flag.__set_name__(object, "zapping")
    assert str(flag.cmpxchg(0, 1, ACQUIRE)) == "zapping.cmpxchg_acquire(0, 1)"
    assert str(flag.wait_until(0)) == "zapping.wait_until(0)"


def test_protocols_are_known_by_name() -> None:
    assert list(PROTOCOLS) == ["direct", "v3", "v4", "v4_patch10", "sketch", "review", "ticket"]
    with pytest.raises(UserError, match="unknown protocol 'v5'; use one of direct, v3"):
        load("v5")


@pytest.mark.parametrize("times", [0, -1, 1_000_001, 1.5, True, "x"])
def test_relax_is_for_a_number_of_times(times: object) -> None:
    cpu = Cpu()
    assert cpu.refuses(cpu.relax(1)) is None
    assert cpu.refuses(cpu.relax(times)) is not None  # type: ignore[arg-type]


def test_relax_changes_nothing_and_says_how_often() -> None:
    cpu = Cpu()
    assert cpu.effect((), cpu.relax(128), 0) == (((), None),)
    assert str(cpu.relax(128)) == "cpu_relax() x 128"


def test_an_array_tells_if_it_is_empty() -> None:
    array = ZapArray(guard=LOCK)
    assert array.effect((), array.is_empty(), 0) == (((), True),)
    ((queued, _),) = array.effect((), array.add(0, 1), 0)
    assert array.effect(queued, array.is_empty(), 1) == ((queued, False),)
