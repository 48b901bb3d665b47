"""The compiled search against the plain one, on protocols and worlds that nobody chose."""

from __future__ import annotations

import pytest

pytest.importorskip("numba", reason="the compiled search needs numba")

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from helpers.random_protocols import PROGRAMS, made_of
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

FEW = 3_000
"""States that the plain search may need."""


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
