"""The product of axes, as numbers from 0: no cell exists before somebody asks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Axis:
    """A name and the values that it takes; a ``range`` stays one, however long."""

    name: str
    values: Sequence[Any]


@dataclass(frozen=True)
class Grid:
    """All combinations. The last axis varies fastest; ``settings`` are the same for all cells."""

    kind: str
    axes: tuple[Axis, ...]
    settings: tuple[tuple[str, Any], ...] = ()

    def __len__(self) -> int:
        """How many cells there are."""
        return math.prod(len(axis.values) for axis in self.axes)

    def at(self, number: int) -> dict[str, Any]:
        """Return the values of one cell, by axis."""
        found = {}
        for axis in reversed(self.axes):
            number, index = divmod(number, len(axis.values))
            found[axis.name] = axis.values[index]
        return {axis.name: found[axis.name] for axis in self.axes}

    def stride(self, name: str) -> int:
        """Return how many neighbouring cells share the values of an axis and of those before it."""
        names = [axis.name for axis in self.axes]
        return math.prod(len(axis.values) for axis in self.axes[names.index(name) + 1 :])
