"""Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010).

vCPUs have random priorities and the highest that can go on does; at a few random steps the running
one drops to the bottom. A bug that needs *depth* such changes is found in one execution with
probability at least 1/(vcpus x steps^(depth-1)), however rare it is under a fair coin.
"""

from __future__ import annotations

import random


class Pct:
    """Priorities, with ``depth - 1`` change points in the first ``steps`` steps."""

    name = "pct"

    def __init__(self, seed: int = 0, depth: int = 3, steps: int = 64) -> None:
        """``steps`` is a guess at the length of an execution."""
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
