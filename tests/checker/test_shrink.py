"""A shrunk schedule still runs, still shows the same, and is a shortest one where that is known."""

import pytest

from mtrrzap.checker.check import Options, check
from mtrrzap.checker.scenario import Scenario
from mtrrzap.checker.schedule import replay, shows, written
from mtrrzap.checker.shrink import shrunk
from mtrrzap.checker.strategies import Pct
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS


@pytest.mark.parametrize(
    ("name", "vcpus", "found", "small"), [("v4", 16, 127, 20), ("v3", 6, 45, 20)]
)
def test_from_many_vcpus_to_two(name: str, vcpus: int, found: int, small: int) -> None:
    """20 steps are what the exhaustive search of two vCPUs finds, breadth first."""
    world = Scenario(PROTOCOLS[name], (((ALL_GFNS,),),) * vcpus, alloc_fails=True)
    options = Options(properties=("lost zap",), strategy=Pct(0, steps=120), runs=500, first=True)
    (verdict,) = check(world, options)
    assert verdict.counterexample is not None
    made = shrunk(verdict.counterexample)
    assert (len(verdict.counterexample.schedule), len(made.schedule)) == (found, small)
    assert shows(made)
    assert made.scenario.vcpus == vcpus
    assert len({step.vcpu for step in made.schedule}) == 2
    assert shrunk(made) == made
    again = replay(written(made, name), "x", PROTOCOLS.__getitem__)
    assert again.schedule == made.schedule
