"""When vCPUs that are woken together arrive: in several random patterns.

How many walks a wave of requests takes depends on who comes just in time for whom. Under a single
pattern a figure jumps by a factor of two when a parameter changes by a fifth, so figures are means
over patterns. Gaps are exponentially distributed, and so are the times of page faults. A pattern is
the seed of Python's generator: numbers are the same in every run.
"""

import math
from collections.abc import Iterator
from random import Random

PATTERNS = 6
"""Patterns over which a figure is averaged."""


def numbers(phase: int, pattern: int, what: int) -> Random:
    """Return a source of random numbers; no two uses (``what``) share them."""
    return Random((phase << 16) + (pattern << 4) + what)


def gaps(mean: float, phase: int, pattern: int) -> Iterator[float]:
    """Yield the cycles between each arrival of a phase and the next, without end."""
    source = numbers(phase, pattern, 0)
    while True:
        yield -mean * math.log(1.0 - source.random())
