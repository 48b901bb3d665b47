import pytest

from mtrrzap.checker.check import Options, check
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties.lost_zap import FLAG, LostZap
from mtrrzap.checker.sample import sample
from mtrrzap.checker.scenario import scenario
from mtrrzap.checker.strategies import Pct, RandomWalk, Strategy
from mtrrzap.protocol.load import load


def test_pct_catches_what_a_fair_coin_misses() -> None:
    """v4's window needs one vCPU to stand still for eight steps: a coin hardly lets it."""
    world = scenario(load("v4"), 2, 1)
    coin = sample(Model(world, LostZap(world)), RandomWalk(1), 2000)
    assert (coin.states, coin.violations) == (231, {})
    assert coin.cut == "2,000 executions (random)"
    found = sample(Model(world, LostZap(world)), Pct(1), 2000)
    assert found.states == 254
    assert len(found.violations[FLAG].schedule) == 20


@pytest.mark.parametrize("strategy", [RandomWalk(0), Pct(0)])
def test_what_was_not_seen_does_not_hold(strategy: Strategy) -> None:
    options = Options(strategy=strategy, runs=50)
    verdicts = check(scenario(load("ticket"), 8, 2), options)
    assert {each.verdict for each in verdicts} == {"unknown"}


@pytest.mark.parametrize("make", [RandomWalk, Pct])
def test_the_same_seed_gives_the_same_executions(make: type[RandomWalk]) -> None:
    world = scenario(load("v4"), 3, 1)
    one, other = (sample(Model(world, LostZap(world)), make(5), 40) for _ in range(2))
    assert (one.states, one.transitions) == (other.states, other.transitions)
