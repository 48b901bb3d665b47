"""The compiled search against the one in plain Python: every number equal."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("numba", reason="the compiled search needs numba")

import numpy as np

from mtrrzap.checker import packed_general as kernel
from mtrrzap.checker import packed_ghost as ghosts
from mtrrzap.checker import packed_search as fast
from mtrrzap.checker import tables, visited
from mtrrzap.checker.explore import Search
from mtrrzap.checker.model import Model
from mtrrzap.checker.packed_search import FastSearch
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.result import Exploration, Limits
from mtrrzap.checker.scenario import Scenario, scenario
from mtrrzap.checker.tables import fields_for
from mtrrzap.protocol.load import load

MIXED = ((0x80, 0xA0), (0x100, 0x200)), ((0x100, 0x200),), ((0xC0, 0xC8),)


def both(world: Scenario, **options: Any) -> tuple[Exploration, Exploration]:
    slow = Search(Model(world, LostZap(world)), **options).run()
    return slow, FastSearch(Model(world, LostZap(world)), **options).run()


WORLDS = [
    scenario(load("v4"), 2, 1, alloc_fails=True),
    scenario(load("v4"), 3, 2),
    scenario(load("v3"), 3, 1, alloc_fails=True),
    scenario(load("sketch"), 3, 1, memory="tso"),
    scenario(load("review"), 3, 1, ranges=MIXED),
    scenario(load("ticket"), 3, 2),
]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: f"{world.protocol.name}-{world.vcpus}")
@pytest.mark.parametrize("symmetry", [True, False])
def test_every_number_is_equal(world: Scenario, symmetry: bool) -> None:
    slow, quick = both(world, symmetry=symmetry)
    assert quick.cut is None
    assert (quick.states, quick.transitions, quick.depth) == (
        slow.states,
        slow.transitions,
        slow.depth,
    )
    lengths = {flag: len(found.schedule) for flag, found in slow.violations.items()}
    assert {flag: len(found.schedule) for flag, found in quick.violations.items()} == lengths


@pytest.mark.parametrize(
    ("name", "vcpus", "requests", "states"),
    [
        ("v4", 4, 2, 58616),
        ("sketch", 4, 2, 23084),
        ("review", 4, 2, 4801),
        ("ticket", 4, 2, 394657),
        ("sketch", 5, 1, 4088),
        ("review", 5, 1, 866),
        ("ticket", 5, 1, 10527),
    ],
)
def test_the_sizes_that_were_asked_for(name: str, vcpus: int, requests: int, states: int) -> None:
    world = scenario(load(name), vcpus, requests)
    found = FastSearch(Model(world, LostZap(world))).run()
    assert found.cut is None
    assert found.states == states
    assert bool(found.violations) == (name == "v4")


def test_two_words_store_the_same_states(monkeypatch: pytest.MonkeyPatch) -> None:
    world = scenario(load("v4"), 3, 2)
    one = FastSearch(Model(world, LostZap(world))).run()
    monkeypatch.setattr(tables, "_WORD", 24)
    two = FastSearch(Model(world, LostZap(world)))
    found = two.run()
    assert two.words == 2
    assert (found.states, found.transitions) == (one.states, one.transitions)
    assert len(found.violations[1].schedule) == 20


def test_growing_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_FIRST_SLOTS", 1 << 13)
    monkeypatch.setattr(fast, "_NARROW_SLOTS", 0)
    world = scenario(load("v4"), 4, 1)
    found = FastSearch(Model(world, LostZap(world)), symmetry=False).run()
    assert (found.states, found.transitions) == (61591, 155420)


def test_a_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_PAUSE", 100)
    world = scenario(load("sketch"), 4, 1)
    limits = Limits(states=1000)
    found = FastSearch(Model(world, LostZap(world)), limits=limits, symmetry=False).run()
    assert found.cut == "limit of 1,000 states"
    assert 1000 <= found.states < 2000
    assert found.frontier > 0


def test_too_little_memory_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_FIRST_SLOTS", 1 << 13)
    world = scenario(load("sketch"), 4, 1)
    limits = Limits(bytes=100_000)
    found = FastSearch(Model(world, LostZap(world)), limits=limits, symmetry=False).run()
    assert found.cut == "limit of 0.0 GB of memory"


def test_full_tables_are_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "GHOST_BITS", 4)  # of the tables only: the loop is compiled
    world = scenario(load("sketch"), 4, 1)
    found = FastSearch(Model(world, LostZap(world))).run()
    assert found.cut == "more than 16 ghost values"


def test_fields_never_straddle_words() -> None:
    fields, words = fields_for([1 << 20] * 4)
    assert words == 2
    assert [tuple(row) for row in fields] == [
        (0, 0, (1 << 20) - 1),
        (0, 20, (1 << 20) - 1),
        (0, 40, (1 << 20) - 1),
        (1, 0, (1 << 20) - 1),
    ]
    assert kernel.EMPTY == 0
    assert kernel.TAKEN < 0  # in every state: none looks like an empty slot


@pytest.mark.parametrize("words", [1, 2])
def test_a_table_doubles_where_it_is(words: int) -> None:
    before = 4 * kernel.PIECE
    states = np.random.default_rng(1).integers(1, 1 << 62, before, np.int64)  # half of it, or more
    states = states[: words * before // 2] | kernel.TAKEN
    table = np.zeros(2 * before * words, np.int64)
    kernel.rebuild(states, before // 2, table, before, words)
    assert kernel.double(table, before, words)
    for i in range(before // 2):
        high = states[2 * i + 1] if words == 2 else 0
        assert not kernel.insert(table, 2 * before, states[words * i], high, words)
    assert np.count_nonzero(table[::words]) == before // 2


def test_a_table_too_full_to_double_says_so() -> None:
    before = 4 * kernel.PIECE
    table = np.zeros(2 * before, np.int64)
    low = next(i for i in range(kernel.TAKEN, 0) if kernel._slot(i, 0, before) < 4)
    table[before - 1] = low  # as far from its place as only a run of taken slots takes it
    assert not kernel.double(table, before, 1)


def test_slots_get_narrow_when_that_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visited, "LEAST_BITS", 43)
    monkeypatch.setattr(fast, "_NARROW_SLOTS", 16)
    monkeypatch.setattr(fast, "_FIRST_SLOTS", 1 << 16)
    world = scenario(load("sketch"), 5, 1)
    search = FastSearch(Model(world, LostZap(world)), symmetry=False)
    search._begin()
    assert (search._table.itemsize, search._hashing.tolist()) == (8, [43, 16, 64])
    found = FastSearch.run(search)
    assert (search._table.itemsize, search._hashing.tolist()) == (4, [43, 19, 32])
    assert (found.states, found.transitions) == (292483, 674570)
    assert found.bytes == 8 * 292483 + 4 * (1 << 19)


def test_a_state_too_far_from_its_slot_makes_the_table_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast, "_FIRST_SLOTS", 1 << 16)
    monkeypatch.setattr(FastSearch, "_set_limit", _no_limit)
    world = scenario(load("v4"), 4, 1)
    search = FastSearch(Model(world, LostZap(world)), symmetry=False)
    found = search.run()
    assert search._hashing.tolist() == [40, 17, 32]
    assert (found.states, found.transitions) == (61591, 155420)
    assert len(found.violations[1].schedule) == 20


def _no_limit(search: FastSearch) -> None:
    search._control[kernel.GROW_AT] = 1 << 30


@pytest.mark.parametrize("width", [visited.NARROW, visited.WIDE])
def test_an_exact_table_doubles_where_it_is(width: int) -> None:
    kind = np.uint32 if width == visited.NARROW else np.uint64
    states = np.unique(np.random.default_rng(1).integers(0, 1 << 40, 40_000, np.uint64))
    table = np.zeros((1 << 17) + visited.MARGIN, kind)
    hashing = np.array([40, 16, width], np.uint64)
    assert visited.rebuild(states, len(states), table, hashing)
    assert visited.double(table, hashing)
    hashing[1] += np.uint64(1)
    fresh = np.zeros(len(states) + 1, np.uint64)
    recent = np.zeros(1 << visited.RECENT_BITS, np.uint64)
    hashes = np.zeros(len(states), np.uint64)
    met = visited.sift(states, len(states), fresh, hashes, recent, table, hashing)
    assert met == len(states)  # they are all different, and nothing was met a moment ago
    known = fresh.copy()
    assert visited.insert(known, hashes, met, fresh, table, hashing, 0) == (0, True)
    assert np.count_nonzero(table) == len(states)


def test_a_table_that_is_too_full_says_so() -> None:
    states = np.unique(np.random.default_rng(1).integers(0, 1 << 40, 70_000, np.uint64))
    table = np.zeros((1 << 16) + visited.MARGIN, np.uint32)
    hashing = np.array([40, 16, visited.NARROW], np.uint64)
    assert not visited.rebuild(states, len(states), table, hashing)


def test_ghosts_follow_lost_zap() -> None:
    """Every step, exchange and key of the values that a world has, against the plain ones."""
    world = scenario(load("v4"), 3, 1, ranges=MIXED)
    model = Model(world, LostZap(world))
    Search(model, symmetry=False).run()
    compiled = ghosts.ghosts_for(model.ghost, 3)
    assert compiled is not None
    compiled.make_room(1 << 14, model.events.items)
    words, slots, events, sizes = compiled.arrays()
    for number, value in enumerate(tuple(model.ghosts.items)):
        at = compiled.number(value)
        assert compiled.value(at) == value
        for vcpu in range(3):
            for event in range(len(model.events)):
                after, flags = model.event_step(number, event, vcpu)
                got = ghosts.step(at, event, vcpu, words, slots, events, sizes)
                assert compiled.value(at + (got >> kernel.CHANGE_AT)) == model.ghosts.items[after]
                assert got >> kernel.FLAGS_AT & kernel.FLAGS_MASK == flags
    assert len(model.ghosts) > 100
