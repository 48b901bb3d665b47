"""The compiled search against the plain one, on protocols and worlds that nobody chose."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("numba", reason="the compiled search needs numba")

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mtrrzap.checker import packed_layout, packed_search, packed_set, packed_tables
from mtrrzap.checker.check import SAFETY, Counterexample
from mtrrzap.checker.explore import Search
from mtrrzap.checker.ghost import Ghost
from mtrrzap.checker.model import Model
from mtrrzap.checker.packed_search import PackedSearch
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.properties.ordering import Ordering
from mtrrzap.checker.result import Exploration, Limits
from mtrrzap.checker.scenario import Scenario, scenario
from mtrrzap.checker.schedule import shows
from mtrrzap.protocol import (
    ACQUIRE,
    FULL,
    RELAXED,
    RELEASE,
    Atomic,
    Protocol,
    Range,
    Sequence,
    Spinlock,
    Steps,
    Vm,
    ZapArray,
    ZapList,
)
from mtrrzap.protocol.registry import protocol

Program = tuple[Any, ...]

FEW = 3_000
"""States that the plain search may need."""


class RandomVm(Vm):
    lock = Spinlock()
    list = ZapList(guard=lock)
    array = ZapArray(guard=lock, entries=2)
    flag = Atomic(0)
    done = Sequence(0)


def made_of(program: Program) -> Protocol:  # noqa: C901 - one branch an instruction
    """Make a protocol that runs a program: instructions, of which some hold programs."""

    def call(vm: RandomVm, ranges: tuple[Range, ...]) -> Steps:
        yield from run(vm, ranges, program)
        yield vm.flag.load()

    def run(vm: RandomVm, ranges: tuple[Range, ...], block: Program) -> Steps:  # noqa: C901
        for verb, *rest in block:
            if verb == "alloc":
                if not (yield vm.memory.alloc()):
                    yield from run(vm, ranges, rest[0])
            elif verb == "locked":
                yield vm.lock.lock()
                yield from run(vm, ranges, rest[0])
                yield vm.lock.unlock()
            elif verb == "add":
                yield vm.list.add(*ranges[0])
            elif verb == "pop":
                if (entry := (yield vm.list.pop_first())) is not None:
                    yield vm.mmu.zap(*entry)
            elif verb == "queue":
                yield vm.array.add(*ranges[-1])
            elif verb == "take":
                for entry in (yield vm.array.take()):
                    yield vm.mmu.zap(*entry)
            elif verb == "zap":
                for entry in ranges:
                    yield vm.mmu.zap(*entry)
            elif verb == "store":
                yield vm.flag.store(rest[0], rest[1])
            elif verb == "if":
                if (yield vm.flag.load(rest[0])):
                    yield from run(vm, ranges, rest[1])
            elif verb == "try":
                if (yield vm.flag.cmpxchg(0, 1)) == 0:
                    yield from run(vm, ranges, rest[0])
            elif verb == "wait":
                yield vm.flag.wait_until(rest[0], rest[1])
            elif verb == "number":
                number = yield vm.done.advance()
                yield vm.done.wait_reached(number)

    return protocol(call, "random")


LOADS = st.sampled_from([RELAXED, ACQUIRE])
STORES = st.sampled_from([RELAXED, RELEASE, FULL])
LEAVES = st.one_of(
    st.sampled_from([("zap",), ("add",), ("pop",), ("queue",), ("take",)]),
    st.tuples(st.just("store"), st.integers(0, 1), STORES),
    st.tuples(st.just("wait"), st.integers(0, 1), LOADS),
)


def blocks(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    block = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(
        st.tuples(st.sampled_from(["alloc", "locked", "try"]), block),
        st.tuples(st.just("if"), LOADS, block),
    )


PROGRAMS = st.lists(st.recursive(LEAVES, blocks, max_leaves=6), min_size=1, max_size=5).map(tuple)
RANGES = st.lists(
    st.sampled_from([((0, 8),), ((4, 12),), ((0, 4), (8, 12)), ((0, 1 << 52),)]),
    min_size=1,
    max_size=2,
)


@st.composite
def worlds(draw: st.DrawFn) -> Scenario:
    return scenario(
        made_of(draw(PROGRAMS)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 2)),
        ranges=draw(RANGES),
        alloc_fails=draw(st.booleans()),
        memory=draw(st.sampled_from(["sc", "sc", "tso"])),
    )


def explored(world: Scenario, ghost: Ghost, symmetry: bool) -> tuple[Exploration, PackedSearch]:
    """Run the plain search, if it is small enough, and make the compiled one."""
    limits = Limits(states=FEW)
    slow = Search(Model(world, ghost), symmetry=symmetry, limits=limits).run()
    assume(slow.cut is None)
    return slow, PackedSearch(Model(world, ghost), symmetry=symmetry)


def equal(slow: Exploration, quick: Exploration) -> None:
    assert quick.cut is None
    assert (quick.states, quick.transitions) == (slow.states, slow.transitions)
    assert quick.depth == slow.depth
    lengths = {flag: len(found.schedule) for flag, found in slow.violations.items()}
    assert {flag: len(found.schedule) for flag, found in quick.violations.items()} == lengths


MANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@MANY
@given(worlds(), st.booleans())
def test_every_number_is_equal(world: Scenario, symmetry: bool) -> None:
    world = world.together()[0]
    slow, fast_search = explored(world, LostZap(world), symmetry)
    quick = fast_search.run()
    equal(slow, quick)
    for name, flag in SAFETY.items():
        if flag in quick.violations:
            assert shows(Counterexample(world, name, quick.violations[flag].schedule))


@MANY
@given(worlds(), st.booleans())
def test_a_ghost_that_is_not_compiled(world: Scenario, symmetry: bool) -> None:
    world = world.together()[0]
    slow, fast_search = explored(world, Ordering(world, world.protocol.vm.objects()), symmetry)
    equal(slow, fast_search.run())


@MANY
@given(worlds(), st.booleans(), st.sampled_from([24, 63]), st.integers(4, 12), st.integers(1, 8))
def test_whatever_room_there_is_at_first(
    world: Scenario, symmetry: bool, word: int, slot_bits: int, margin: int
) -> None:
    """Two words where one is too short; tables that double, are rebuilt, and get wider or less."""
    world = world.together()[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_layout, "WORD_BITS", word)
        patch.setattr(packed_tables, "FIRST_LOCALS", 1)
        patch.setattr(packed_tables, "FIRST_EVENTS", 1)
        patch.setattr(packed_tables, "FIRST_GHOSTS", 1)
        patch.setattr(packed_search, "FIRST_SLOTS", 1 << slot_bits)
        patch.setattr(packed_search, "NARROW_SLOTS", 12 + margin)
        patch.setattr(packed_set, "LEAST_BITS", 24)
        try:
            slow, fast_search = explored(world, LostZap(world), symmetry)
        except OverflowError:
            assume(False)
        quick = fast_search.run()
    assume(quick.cut != "a state does not fit in two words")
    equal(slow, quick)
