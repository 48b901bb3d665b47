"""A wave of zaps against one that is run visit by visit and fault by fault."""

import itertools
from dataclasses import replace
from typing import Any, cast

import pytest

from helpers.costs import COSTS
from helpers.naive_wave import Wave
from mtrrzap.gfn import Range
from mtrrzap.kvm.phases import Phase
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Request, Why
from mtrrzap.simulator import Costs, Stage
from mtrrzap.simulator.actor import Actor
from mtrrzap.simulator.arrivals import gaps
from mtrrzap.simulator.footprint import Footprint, WalkWork
from mtrrzap.simulator.presence import STACK
from mtrrzap.simulator.simulation import Simulation

HOST = replace(COSTS, visit=54, handoff=130, retry=5000, leave=3000, flush=0, pages=6)
VISITS, START, USES, LEVELS = 300, 20, 180, 4
MANY = 60
WAY = 1500.0


class Walked:
    """Stands for ``Footprint``: every walk makes the same visits."""

    def work(self, *_: Any, **__: Any) -> WalkWork:
        return WalkWork(VISITS, 0, 0, LEVELS)

    def uses(self, *_: Any) -> int:
        return USES

    def starts(self, *_: Any) -> int:
        return START


def modelled(costs: Costs, vcpus: int, stage: Stage, pattern: int) -> float:
    policy = by_name("Base2")
    boot = Simulation(policy, costs, cast(Footprint, Walked()))
    everyone = frozenset(range(vcpus))
    phase = Phase(0, stage, running=vcpus, woken=everyone, sleepers=everyone)
    phase.events = {v: [v] for v in everyone}
    request = Request(0, 0, Why.CD_CLEARED, (Range(0, 1 << 34),))
    boot.run(0, phase, [Actor(v, [(WAY, request)], sleeps=True) for v in everyone], pattern)
    return sum(s.end - s.begin for s in boot.served)


def naive(costs: Costs, vcpus: int, stage: Stage, pattern: int) -> float:
    apart = gaps(costs.stagger, 0, pattern)
    wakes = list(itertools.islice(itertools.accumulate(apart, initial=0.0), vcpus))
    paged = stage > Stage.UNPAGED
    own, again = (STACK, (int(costs.pages), STACK)) if paged else (0, (1, 0))
    way = WAY + costs.wake if stage is Stage.FIRMWARE else WAY
    return Wave(costs, VISITS, START, USES, own, again, way, seed=pattern).run(wakes)


@pytest.mark.parametrize(
    ("stage", "vcpus", "stagger", "wake", "within"),
    [
        (Stage.UNPAGED, 1, 1500, 9000, 1.01),
        (Stage.UNPAGED, 2, 6000, 9000, 1.01),
        (Stage.UNPAGED, 7, 1500, 9000, 1.1),
        (Stage.UNPAGED, 15, 300, 9000, 1.01),
        (Stage.UNPAGED, 15, 6000, 9000, 1.2),
        (Stage.FIRMWARE, 7, 1500, 0, 1.3),
        (Stage.FIRMWARE, 15, 6000, 0, 1.3),
        (Stage.FIRMWARE, 7, 6000, 9000, 1.1),
        (Stage.FIRMWARE, 15, 6000, 9000, 1.1),
        (Stage.KERNEL, 7, 1500, 9000, 1.3),
    ],
)
def test_a_wave(stage: Stage, vcpus: int, stagger: float, wake: float, within: float) -> None:
    """Means over patterns, whose spread leaves them uncertain by a tenth and more."""
    costs = replace(HOST, stagger=stagger, wake=wake)
    model = sum(modelled(costs, vcpus, stage, each) for each in range(MANY)) / MANY
    oracle = sum(naive(costs, vcpus, stage, each) for each in range(MANY)) / MANY
    assert 1 / within < model / oracle < within
