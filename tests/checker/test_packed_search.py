"""The compiled search against the one in plain Python: every number equal."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("numba", reason="the compiled search needs numba")

import numpy as np

from mtrrzap.checker import packed_ghost, packed_layout, packed_search, packed_set
from mtrrzap.checker.explore import Search
from mtrrzap.checker.model import Model
from mtrrzap.checker.packed_layout import SeenStates, fields_for
from mtrrzap.checker.packed_search import PackedSearch
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.result import Exploration, Limits
from mtrrzap.checker.scenario import Scenario, scenario
from mtrrzap.protocol.load import load

MIXED = ((0x80, 0xA0), (0x100, 0x200)), ((0x100, 0x200),), ((0xC0, 0xC8),)


def both(world: Scenario, **options: Any) -> tuple[Exploration, Exploration]:
    slow = Search(Model(world, LostZap(world)), **options).run()
    return slow, PackedSearch(Model(world, LostZap(world)), **options).run()


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
    found = PackedSearch(Model(world, LostZap(world))).run()
    assert found.cut is None
    assert found.states == states
    assert bool(found.violations) == (name == "v4")


def test_two_words_store_the_same_states(monkeypatch: pytest.MonkeyPatch) -> None:
    world = scenario(load("v4"), 3, 2)
    one = PackedSearch(Model(world, LostZap(world))).run()
    monkeypatch.setattr(packed_layout, "WORD_BITS", 24)
    two = PackedSearch(Model(world, LostZap(world)))
    found = two.run()
    assert two.words == 2
    assert (found.states, found.transitions) == (one.states, one.transitions)
    assert len(found.violations[1].schedule) == 20


def test_growing_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_search, "FIRST_SLOTS", 1 << 13)
    monkeypatch.setattr(packed_search, "NARROW_SLOTS", 0)
    world = scenario(load("v4"), 4, 1)
    found = PackedSearch(Model(world, LostZap(world)), symmetry=False).run()
    assert (found.states, found.transitions) == (61591, 155420)


def test_a_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_search, "PAUSE", 100)
    world = scenario(load("sketch"), 4, 1)
    limits = Limits(states=1000)
    found = PackedSearch(Model(world, LostZap(world)), limits=limits, symmetry=False).run()
    assert found.cut == "limit of 1,000 states"
    assert 1000 <= found.states < 2000
    assert found.frontier > 0


def test_too_little_memory_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_search, "FIRST_SLOTS", 1 << 13)
    world = scenario(load("sketch"), 4, 1)
    limits = Limits(bytes=100_000)
    found = PackedSearch(Model(world, LostZap(world)), limits=limits, symmetry=False).run()
    assert found.cut == "limit of 0.0 GB of memory"


def test_full_tables_are_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_layout, "GHOST_BITS", 4)  # of the tables only: the loop is compiled
    world = scenario(load("sketch"), 4, 1)
    found = PackedSearch(Model(world, LostZap(world))).run()
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


def test_slots_get_narrow_when_that_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_set, "LEAST_BITS", 43)
    monkeypatch.setattr(packed_search, "NARROW_SLOTS", 16)
    monkeypatch.setattr(packed_search, "FIRST_SLOTS", 1 << 16)
    world = scenario(load("sketch"), 5, 1)
    few = Limits(states=1000)
    start = PackedSearch(Model(world, LostZap(world)), symmetry=False, limits=few).run()
    assert start.bytes == 8 * start.states + 8 * (1 << 16)
    found = PackedSearch(Model(world, LostZap(world)), symmetry=False).run()
    assert (found.states, found.transitions) == (292483, 674570)
    assert found.bytes == 8 * 292483 + 4 * (1 << 19)


def test_a_state_too_far_from_its_slot_makes_the_table_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed_search, "FIRST_SLOTS", 1 << 16)
    monkeypatch.setattr(packed_search, "FULLEST", 1000.0)
    world = scenario(load("v4"), 4, 1)
    found = PackedSearch(Model(world, LostZap(world)), symmetry=False).run()
    assert found.bytes == 8 * found.states + 4 * (1 << 17)
    assert (found.states, found.transitions) == (61591, 155420)
    assert len(found.violations[1].schedule) == 20


def empty_set(slot_bits: int, width: int, words: int) -> SeenStates:
    kind = np.uint32 if width == packed_set.NARROW else np.uint64
    return SeenStates(
        table=np.zeros(((1 << slot_bits) + packed_set.MARGIN) * words, kind),
        recent=np.zeros(words << packed_set.RECENT_BITS, np.uint64),
        hashing=np.array([40, slot_bits, width], np.uint64),
    )


def random_states(count: int, words: int) -> Any:
    """Return different states; of two words, most share their first with others."""
    states = np.unique(np.random.default_rng(1).integers(0, 1 << 40, count, np.uint64))
    if words == 1:
        return states
    return np.stack([states % np.uint64(1000), states], axis=1).reshape(-1)


@pytest.mark.parametrize(
    ("width", "words"), [(packed_set.NARROW, 1), (packed_set.WIDE, 1), (packed_set.WIDE, 2)]
)
def test_a_table_doubles_where_it_is(width: int, words: int) -> None:
    states, one_a_word = random_states(40_000, words), (0,) * words
    count = len(states) // words
    before, after = empty_set(16, width, words), empty_set(17, width, words)
    seen = after._replace(hashing=before.hashing)
    assert packed_set.rebuild(states, count, seen, one_a_word)
    assert packed_set.double(seen, one_a_word)
    fresh, hashes = np.zeros(len(states) + words, np.uint64), np.zeros(count, np.uint64)
    met = packed_set.sift(
        states, count, fresh, hashes, after._replace(table=seen.table), one_a_word
    )
    assert met == count  # they are all different, and nothing was met a moment ago
    known, more = fresh.copy(), after._replace(table=seen.table)
    assert packed_set.insert(known, hashes, met, fresh, more, 0, one_a_word) == (0, True)
    assert np.count_nonzero(seen.table[::words]) == count


def test_a_table_that_is_too_full_says_so() -> None:
    states = random_states(70_000, 1)
    seen = empty_set(16, packed_set.NARROW, 1)
    assert not packed_set.rebuild(states, len(states), seen, (0,))


def test_ghosts_follow_lost_zap() -> None:
    """Every step, exchange and key of the values that a world has, against the plain ones."""
    world = scenario(load("v4"), 3, 1, ranges=MIXED)
    model = Model(world, LostZap(world))
    Search(model, symmetry=False).run()
    compiled = packed_ghost.packed_ghost(model.ghost, 3)
    assert compiled is not None
    compiled.make_room(1 << 14, model.events.items)
    arrays = compiled.arrays
    for number, value in enumerate(tuple(model.ghosts.items)):
        at = compiled.number(value)
        assert compiled.value(at) == value
        for vcpu in range(3):
            assert packed_ghost.key(at, vcpu, arrays) == model.ghost_key(number, vcpu)
            for event in range(len(model.events)):
                after, flags = model.event_step(number, event, vcpu)
                got = packed_ghost.step(at, event, vcpu, arrays)
                there = at + (got >> packed_layout.CHANGE_AT)
                assert compiled.value(there) == model.ghosts.items[after]
                assert got >> packed_layout.FLAGS_AT & packed_layout.FLAGS_MASK == flags
        for vcpu in range(2):
            exchanged = model.ghosts.items[model.ghost_swapped(number, vcpu)]
            assert compiled.value(packed_ghost.swapped(at, vcpu, arrays)) == exchanged
    assert len(model.ghosts) > 100
