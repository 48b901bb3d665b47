"""The lock's rates and the common clock of walks, by hand."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.costs import COSTS
from helpers.naive_mmu_lock import cycles_a_visit
from mtrrzap.simulator import Costs, cost_model
from mtrrzap.simulator.events import Loop
from mtrrzap.simulator.footprint import WalkWork
from mtrrzap.simulator.mmu_lock import Walks, step


@pytest.mark.parametrize(
    ("walks", "faulting", "cycles"),
    [
        (1, 0, 10),
        # In turns: each of two walks looks at one entry, goes down again, passes the lock.
        (2, 0, 2 * (10 + 40 + 6 * 100)),
        # T = 1950 + 600 * 2 T / (1000 + T): of two vCPUs, 1.48 queue in a turn.
        (3, 2, 2837.3),
    ],
)
def test_step(walks: int, faulting: int, cycles: float) -> None:
    assert step(COSTS, walks, faulting, 4) == pytest.approx(cycles, abs=0.1)


HOSTS = [
    replace(COSTS, visit=65, handoff=handoff, retry=retry)
    for handoff in (80, 150, 300)
    for retry in (2000, 4000, 8000)
] + [cost_model.costs()]


@pytest.mark.parametrize("walks", [2, 7, 15])
@pytest.mark.parametrize("costs", HOSTS, ids=lambda c: f"{c.handoff}-{c.retry}")
def test_step_in_turns_is_what_the_queue_does(costs: Costs, walks: int) -> None:
    for faulting in (0, 1, 8, 14):
        naive = cycles_a_visit(costs, walks, faulting, 4, 500, seed=1)
        assert step(costs, walks, faulting, 4) == pytest.approx(naive, rel=0.06)


@pytest.mark.parametrize("costs", HOSTS, ids=lambda c: f"{c.handoff}-{c.retry}")
def test_step_of_one_walk_is_what_the_queue_does(costs: Costs) -> None:
    """Two states are not all states: at the onset of contention the mean is up to 1.4 too high."""
    for faulting in (1, 3, 7, 15, 31, 63):
        naive = cycles_a_visit(costs, 1, faulting, 4, 4000, seed=1)
        assert 0.9 * naive < step(costs, 1, faulting, 4) < 1.4 * naive


@given(
    faulting=st.integers(0, 2000),
    walks=st.integers(1, 100),
    handoff=st.floats(1, 5000),
    retry=st.floats(100, 20_000),
)
def test_more_vcpus_never_make_a_visit_cheaper(
    faulting: int, walks: int, handoff: float, retry: float
) -> None:
    costs = replace(COSTS, handoff=handoff, retry=retry)
    here = step(costs, walks, faulting, 4)
    assert here >= costs.visit
    assert step(costs, walks + 1, faulting, 4) >= here
    assert step(costs, walks, faulting + 1, 4) >= here * (1 - 1e-9)


class Lock:
    """Walks, and the loop whose event that moves they keep."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.walks = Walks(COSTS, self.loop)

    def at(self, now: float) -> Walks:
        self.loop.now = now
        return self.walks

    def begin(self, now: float, what: object, visits: int) -> None:
        self.at(now).begin(what, WalkWork(visits, 0, 0, 4))

    @property
    def due(self) -> float:
        return self.loop.moving


def test_a_walk_alone_takes_its_visits() -> None:
    lock = Lock()
    assert lock.due == math.inf
    lock.begin(5.0, "walk", 128)
    assert lock.due == 5.0 + 1280
    assert lock.at(lock.due).end() == ("walk", 5.0)
    assert (lock.walks.under_way, lock.due) == ([], math.inf)


def test_two_walks_share_the_lock_while_both_are_there() -> None:
    """The second comes after 50 of the first's 100 visits; each visit then takes 1,300 cycles."""
    lock = Lock()
    lock.begin(0.0, "first", 100)
    lock.begin(500.0, "second", 100)
    assert lock.due == 500 + 50 * 1300
    assert lock.at(65_500.0).end() == ("first", 0.0)
    assert lock.due == 65_500 + 50 * 10


def test_odds_mix_a_calm_walk_and_a_contended_one() -> None:
    lock = Lock()
    lock.walks.contend(0.25, 8)
    lock.begin(0.0, "walk", 10)
    assert lock.due == pytest.approx(10 * (0.75 * 10 + 0.25 * step(COSTS, 1, 8, 4)))


def test_a_vcpu_that_stops_faulting_speeds_the_walk_up() -> None:
    lock = Lock()
    lock.walks.contend(1.0, 15)
    lock.begin(0.0, "walk", 10)
    contended = step(COSTS, 1, 15, 4)
    assert lock.due == pytest.approx(10 * contended)
    lock.at(5 * contended).contend(1.0, 0)
    assert lock.due == pytest.approx(5 * contended + 5 * 10)


def test_a_mark_is_passed_on_the_way() -> None:
    """The first walk's mark is 30 visits in; a second walk slows the last 20 of them down."""
    lock = Lock()
    lock.begin(0.0, "first", 100)
    lock.walks.mark(30, "here")
    lock.walks.mark(0, "at once")
    assert lock.due == 0
    assert lock.walks.passed() == "at once"
    lock.begin(100.0, "second", 100)
    assert lock.due == 100 + 20 * 1300
    assert lock.at(26_100.0).passed() == "here"
    assert lock.due == 26_100 + 70 * 1300
    assert lock.at(117_100.0).passed() is None
    assert lock.walks.end() == ("first", 0.0)
