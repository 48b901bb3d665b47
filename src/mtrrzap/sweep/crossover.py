"""Where one policy becomes cheaper than another as vCPUs grow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
