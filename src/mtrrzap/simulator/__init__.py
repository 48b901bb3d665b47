"""``simulate``: what a policy costs in cycles, modelled (docs/simulate.md)."""

from mtrrzap.kvm.phases import Phase, Stage, phases
from mtrrzap.simulator.cost_model import Costs
from mtrrzap.simulator.figures import Expected, PhaseCost, Result, Served, Spent, Stretch
from mtrrzap.simulator.simulate import Guest, by_phase, expected, simulate

__all__ = [
    "Costs",
    "Expected",
    "Guest",
    "Phase",
    "PhaseCost",
    "Result",
    "Served",
    "Spent",
    "Stage",
    "Stretch",
    "by_phase",
    "expected",
    "phases",
    "simulate",
]
