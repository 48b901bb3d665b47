"""Costs as curves over vCPUs, and where one policy becomes cheaper than another."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mtrrzap.study.units import size
from mtrrzap.sweep.query import Results

Curve = Mapping[int, float]
"""Cost by the number of vCPUs."""


class Crossing(NamedTuple):
    """At ``at`` vCPUs, which lies between two that were simulated, the order of two turns."""

    below: str
    """The cheaper one with fewer vCPUs, and ..."""
    above: str
    """... with more."""
    at: float
    cost: float
    between: tuple[int, int]


@dataclass
class GuestCurves:
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


def guest_curves(results: Results) -> list[GuestCurves]:
    """Return the guests of a ``simulate`` sweep that have costs, in the order of the grid."""
    found: dict[tuple[str, int, str], GuestCurves] = {}
    sql = (
        "SELECT trace, memory_bytes, page_size, seed, policy, vcpus, modelled_cycles FROM cells "
        "WHERE status = 'done' ORDER BY number"
    )
    for trace, memory, page_size, seed, policy, vcpus, cycles in results.ask(sql).rows:
        key = (trace, memory, page_size)
        guest = found.setdefault(key, GuestCurves(*key))
        guest.by_seed.setdefault(seed, {}).setdefault(policy, {})[vcpus] = float(cycles)
    traces = list(dict.fromkeys(key[0] for key in found))
    return sorted(found.values(), key=lambda w: (traces.index(w.trace), w.page_size, w.memory))


# ---- crossings ---------------------------------------------------------------------------------


def crossing_points(curves: Mapping[str, Curve]) -> list[Crossing]:
    """Return all crossings of all pairs, in the order of vCPUs.

    Between two numbers of vCPUs costs go straight in the logarithm of both. Equal costs are no
    crossing until one has become cheaper.
    """
    found = [
        crossing
        for a, b in itertools.combinations(curves, 2)
        for crossing in _of_pair(a, curves[a], b, curves[b])
    ]
    return sorted(found, key=lambda c: (c.at, c.below, c.above))


def _of_pair(a: str, first: Curve, b: str, second: Curve) -> list[Crossing]:
    common = [n for n in sorted(first) if n in second and first[n] > 0 and second[n] > 0]
    apart = [(n, math.log(first[n] / second[n])) for n in common]
    apart = [(n, gap) for n, gap in apart if gap]
    found = []
    for (left, before), (right, after) in itertools.pairwise(apart):
        if (before < 0) == (after < 0):
            continue
        share = before / (before - after)
        at = math.exp(math.log(left) + share * math.log(right / left))
        cost = math.exp(math.log(first[left]) + share * math.log(first[right] / first[left]))
        below, above = (a, b) if before < 0 else (b, a)
        found.append(Crossing(below, above, at, cost, (left, right)))
    return found


def pays(old: Curve, new: Curve, factor: float) -> str:
    """Say for which simulated numbers of vCPUs the new way is cheaper by more than a factor."""
    common = [n for n in sorted(old) if n in new]
    stretches: list[list[int]] = []
    last = -1
    for i, n in enumerate(common):
        if old[n] > factor * new[n]:
            if last == i - 1 and stretches:
                stretches[-1].append(n)
            else:
                stretches.append([n])
            last = i
    if not stretches:
        return "nowhere" if common else "unknown"
    if stretches == [common]:
        return "everywhere"
    return ", ".join(_stretch(each, common) for each in stretches)


def _stretch(found: Sequence[int], common: Sequence[int]) -> str:
    if found[-1] == common[-1]:
        return f"from {found[0]:,} on"
    if found[0] == common[0]:
        return f"up to {found[-1]:,}"
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def vcpus(at: float) -> str:
    """Return an interpolated number of vCPUs to two digits: more would pretend."""
    return f"{float(f'{at:.2g}'):,.0f}"


def spread(values: Sequence[float], seeds: int) -> str:
    """Return the ends of what other seeds gave, and how many gave any; nothing without seeds."""
    if not seeds:
        return ""
    if not values:
        return " (with no other seed)"
    low, high = vcpus(min(values)), vcpus(max(values))
    ends = low if low == high else f"{low} to {high}"
    return f" ({ends})" if len(values) == seeds else f" ({ends}; {len(values)} of {seeds} seeds)"
