"""Every possible step is as likely as any other."""

from __future__ import annotations

import random


class RandomWalk:
    """Uniform choice; the same ``seed`` gives the same executions."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        """Seed the choice."""
        self._seed = seed
        self._random = random.Random(seed)

    def begin(self, execution: int, vcpus: int) -> None:  # noqa: ARG002 - a strategy may use it
        """Make each execution repeatable by itself."""
        self._random = random.Random(f"{self._seed}/{execution}")

    def choose(self, step: int, enabled: list[int]) -> int:  # noqa: ARG002
        """Choose uniformly."""
        return self._random.randrange(len(enabled))
