"""Costs by guest, memory and policy, as curves over vCPUs, out of a sweep's results."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mtrrzap.sweep.crossover import Crossing, crossing_points, spread
from mtrrzap.sweep.query import Results

UNITS = (("T", 40), ("G", 30), ("M", 20))


@dataclass
class World:
    """One guest with one size of memory on one size of page."""

    trace: str
    memory: int
    page_size: str
    by_seed: dict[int, dict[str, dict[int, float]]] = field(default_factory=dict)
    """Of each seed, each policy's cycles by vCPUs."""

    @property
    def curves(self) -> dict[str, dict[int, float]]:
        """Return those of the fitted cost model, or of the lowest seed."""
        return self.by_seed[min(self.by_seed)]

    @property
    def seeds(self) -> list[int]:
        """The other seeds."""
        return sorted(self.by_seed)[1:]

    @property
    def title(self) -> str:
        """Name the guest."""
        pages = "" if self.page_size == "4K" else f", {self.page_size} pages"
        return f"{self.trace}, {size(self.memory)}{pages}"

    @property
    def file(self) -> str:
        """Return a name for a file about it."""
        pages = "" if self.page_size == "4K" else f"-{self.page_size}"
        return (
            re.sub(r"[^\w.+-]+", "_", f"{self.trace}-{size(self.memory)}".replace(" ", "")) + pages
        )

    def crossings(self) -> list[Crossing]:
        """Return where policies cross."""
        return crossing_points(self.curves)

    def wanders(self, crossing: Crossing) -> str:
        """Say where the same two cross with the other seeds."""
        found = []
        for seed in self.seeds:
            pair = {name: self.by_seed[seed].get(name, {}) for name in crossing[:2]}
            found += [c.at for c in crossing_points(pair) if c[:2] == crossing[:2]][:1]
        return spread(found, len(self.seeds))


def worlds(results: Results) -> list[World]:
    """Return the worlds of a ``simulate`` sweep that have costs, in the order of the grid."""
    found: dict[tuple[str, int, str], World] = {}
    sql = (
        "SELECT trace, memory_bytes, page_size, seed, policy, vcpus, modelled_cycles FROM cells "
        "WHERE status = 'done' ORDER BY number"
    )
    for trace, memory, page_size, seed, policy, vcpus, cycles in results.ask(sql).rows:
        key = (trace, memory, page_size)
        world = found.setdefault(key, World(*key))
        world.by_seed.setdefault(seed, {}).setdefault(policy, {})[vcpus] = float(cycles)
    traces = list(dict.fromkeys(key[0] for key in found))
    return sorted(found.values(), key=lambda w: (traces.index(w.trace), w.page_size, w.memory))


def size(memory: int) -> str:
    """Return a number of bytes as a spec writes it."""
    for unit, shift in UNITS:
        if memory % (1 << shift) == 0:
            return f"{memory >> shift} {unit}iB"
    return f"{memory:,} bytes"


def mcycles(cycles: float) -> str:
    """Return millions of cycles to three digits, more would pretend."""
    rounded = float(f"{cycles / 1e6:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"
