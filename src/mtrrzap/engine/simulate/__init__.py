"""``simulate``: what a policy costs in cycles, modelled (docs/simulate.md)."""

from mtrrzap.engine.simulate.costs import Costs
from mtrrzap.engine.simulate.phases import Phase, Stage, phases
from mtrrzap.engine.simulate.result import Expected, PhaseCost, Result, Served, Spent, Stretch
from mtrrzap.engine.simulate.simulate import Guest, expected, simulate

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
    "expected",
    "phases",
    "simulate",
]
