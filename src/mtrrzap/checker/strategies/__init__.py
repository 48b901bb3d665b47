"""How to choose among interleavings, where there are too many to see them all.

Breadth-first search sees them all (:mod:`explore`, :mod:`fast`). The strategies here run one
execution after the other and choose each step; all they say is what they have seen.
"""

from __future__ import annotations

from typing import Protocol

from mtrrzap.checker.strategies.pct import Pct
from mtrrzap.checker.strategies.random_walk import RandomWalk


class Strategy(Protocol):
    """Chooses one step after the other."""

    name: str

    def begin(self, execution: int, vcpus: int) -> None:
        """Start the next execution."""

    def choose(self, step: int, enabled: list[int]) -> int:
        """Return which of the possible steps to make; ``enabled`` lists the vCPU of each."""


__all__ = ["Pct", "RandomWalk", "Strategy"]
