"""``simulate``: what a policy costs in cycles, modelled (docs/simulate.md)."""

from mtrrzap.engine.simulate.costs import Costs
from mtrrzap.engine.simulate.phases import Phase, Stage, phases
from mtrrzap.engine.simulate.result import PhaseCost, Result, Served, Spent, Stretch
from mtrrzap.engine.simulate.simulate import Guest, simulate

__all__ = [
    "Costs",
    "Guest",
    "Phase",
    "PhaseCost",
    "Result",
    "Served",
    "Spent",
    "Stage",
    "Stretch",
    "phases",
    "simulate",
]
