"""When vCPUs that are woken together arrive: in several patterns, since one would be an accident.

How many walks a wave of requests takes depends on who comes just in time for whom. Under a single
pattern of arrivals a figure jumps by a factor of two when a parameter moves by a fifth; so it is a
mean over patterns. Gaps are exponentially distributed. They come from additive recurrences with
irrational steps, which fill the unit interval evenly, rather than from a generator of random
numbers: a few patterns then do for many, and there is no seed.
"""

import math
from collections.abc import Iterator

PATTERNS = 4
"""Patterns over which a figure is averaged."""

_VCPU = 0.6180339887498949  # the golden ratio, less 1
_PHASE, _PATTERN = 0.7548776662466927, 0.5698402909980532  # 1 / plastic number, and its square


def gaps(mean: float, phase: int, pattern: int) -> Iterator[float]:
    """Yield the cycles between each arrival of a phase and the next, without end."""
    place = (phase + 1) * _PHASE + pattern * _PATTERN
    while True:
        place = (place + _VCPU) % 1.0
        yield -mean * math.log(1.0 - place)
