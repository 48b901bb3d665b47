"""How to choose among interleavings, where there are too many to see them all.

Breadth-first search (:mod:`explore`, :mod:`packed_search`) sees all of them. A strategy chooses the
steps of one execution after the other, and can report only what these have seen.
"""

import random
from typing import Protocol


class Strategy(Protocol):
    """Chooses one step after the other."""

    name: str

    def begin(self, execution: int, vcpus: int) -> None:
        """Start the next execution."""

    def choose(self, step: int, enabled: list[int]) -> int:
        """Return which of the possible steps to make; ``enabled`` lists the vCPU of each."""


class RandomWalk:
    """Every possible step is equally likely; the same ``seed`` gives the same executions."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._random = random.Random(seed)

    def begin(self, execution: int, vcpus: int) -> None:  # noqa: ARG002 - a strategy may use it
        """Make each execution repeatable by itself."""
        self._random = random.Random(f"{self._seed}/{execution}")

    def choose(self, step: int, enabled: list[int]) -> int:  # noqa: ARG002
        """Choose uniformly."""
        return self._random.randrange(len(enabled))


class Pct:
    """Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010).

    vCPUs have random priorities, and the highest that can go on does. At ``depth - 1`` random steps
    of the first ``steps`` the running vCPU drops to the bottom. One execution finds a bug that
    needs ``depth`` such changes with probability at least 1/(vcpus x steps^(depth-1)), however rare
    it is under a fair coin.
    """

    name = "pct"

    def __init__(self, seed: int = 0, depth: int = 3, steps: int = 64) -> None:
        self._seed = seed
        self._depth = depth
        self._steps = steps
        self._random = random.Random(seed)
        self._priority: list[int] = []
        self._changes: set[int] = set()

    def begin(self, execution: int, vcpus: int) -> None:
        """Draw priorities and change points."""
        self._random = random.Random(f"{self._seed}/{execution}")
        self._priority = [self._depth + i for i in range(vcpus)]
        self._random.shuffle(self._priority)
        self._changes = {self._random.randrange(self._steps) for _ in range(self._depth - 1)}

    def choose(self, step: int, enabled: list[int]) -> int:
        """Run the highest priority; among its own alternatives choose uniformly."""
        best = max(set(enabled), key=lambda vcpu: self._priority[vcpu])
        if step in self._changes:
            self._priority[best] = min(self._priority) - 1
            best = max(set(enabled), key=lambda vcpu: self._priority[vcpu])
        return self._random.choice([i for i, vcpu in enumerate(enabled) if vcpu == best])
