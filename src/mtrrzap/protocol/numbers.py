"""A sequence's numbers inside other values, and what it means to count them from elsewhere.

A protocol only compares numbers, so a state behaves alike when all of them move by the same amount.
One that every sequence has left behind can only be compared with others that a vCPU remembers: then
its order among them is all that matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtrrzap.protocol.atomic import Number, position_of

FAR = 10**40 + 7
"""Added to all numbers, it must change nothing."""


def positions(value: Any) -> set[int]:
    """Return the positions of all numbers in a value, and in what it holds."""
    if isinstance(value, Number):
        return {position_of(value)}
    if isinstance(value, tuple | frozenset):
        return set().union(*map(positions, value))
    return set()


def renumbered(value: Any, name: Callable[[int], int]) -> Any:
    """Return a value with all its numbers renamed."""
    if isinstance(value, Number):
        return Number(name(position_of(value)))
    return tuple(renumbered(each, name) for each in value) if type(value) is tuple else value


def counted_from(value: Any, base: int) -> Any:
    """Count a value's numbers from ``base`` on; those before it become -1, -2, ... by their order.

    >>> counted_from((Number(2), Number(9), Number(4)), base=6)
    (-2, 3, -1)
    """
    found = sorted(positions(value))
    behind = sum(each < base for each in found)
    names = {p: p - base if p >= base else i - behind for i, p in enumerate(found)}
    return renumbered(value, names.__getitem__) if names else value


def far(value: Any) -> Any:
    """Return a value with all its numbers far ahead."""
    return renumbered(value, FAR.__add__)
