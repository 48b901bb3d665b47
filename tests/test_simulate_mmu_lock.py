"""The lock's rates and the common clock of walks, by hand."""

from dataclasses import replace

import pytest

from mtrrzap.engine.simulate import Costs
from mtrrzap.engine.simulate.mmu_lock import Walks, step

COSTS = Costs(
    visit=10,
    handoff=100,
    retry=1000,
    flush=20,
    free=500,
    leave=50,
    stagger=0,
    again=1,
    unpaged_blocks=0,
    firmware_blocks=0,
    kernel_blocks=0,
    mmio_blocks=0,
)


@pytest.mark.parametrize(
    ("walks", "faulting", "cycles"),
    [
        (1, 0, 10),
        # A yield costs 2 handoffs and 4 levels: 240. One attempt a 1000 cycles: 10 / (1 - 0.24).
        (1, 1, 10 / 0.76),
        (1, 3, 10 / 0.28),
        # More attempts than the walk can serve: it yields at each entry, to all of them.
        (1, 8, 10 + 40 + 100 * 9),
        # In turns: each of two walks looks at one entry, goes down again, passes the lock.
        (2, 0, 2 * (10 + 40 + 100)),
        (3, 2, 3 * (10 + 40 + 100) + 2 * 100),
    ],
)
def test_step(walks: int, faulting: int, cycles: float) -> None:
    assert step(COSTS, walks, faulting, 4) == pytest.approx(cycles)


def test_a_walk_alone_takes_its_visits() -> None:
    walks = Walks(COSTS)
    walks.begin(5.0, 0, 128, 4, odds=0.0)
    assert walks.next_end() == 5.0 + 1280
    walker, odds = walks.end(walks.next_end())
    assert (walker.vcpu, odds, len(walks)) == (0, 0.0, 0)


def test_two_walks_share_the_lock_while_both_are_there() -> None:
    """The second comes after 50 of the first's 100 visits; each visit then takes 300 cycles."""
    walks = Walks(COSTS)
    walks.begin(0.0, 0, 100, 4, odds=0.0)
    walks.begin(500.0, 1, 100, 4, odds=0.0)
    assert walks.next_end() == 500 + 50 * 300
    assert walks.end(15_500.0)[0].vcpu == 0
    assert walks.next_end() == 15_500 + 50 * 10


def test_odds_mix_a_calm_walk_and_a_contended_one() -> None:
    walks = Walks(COSTS)
    walks.faulting(0.0, 8)
    walks.begin(0.0, 0, 10, 4, odds=0.25)
    assert walks.next_end() == pytest.approx(10 * (0.75 * 10 + 0.25 * 950))


def test_a_vcpu_that_stops_faulting_speeds_the_walk_up() -> None:
    walks = Walks(replace(COSTS, retry=10))
    walks.faulting(0.0, 1)
    walks.begin(0.0, 0, 10, 4, odds=1.0)
    assert walks.next_end() == 10 * 250
    walks.faulting(1250.0, 0)
    assert walks.next_end() == 1250 + 5 * 10
