"""Disjoint stretches of frames with a value each: a sparse map that grows with what differs."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class Runs(Generic[V]):
    """A map from frames to values, kept as maximal runs ``(start, end, value)``, ascending.

    Finding a run takes logarithmic time, a change also moves the runs behind it.
    """

    def __init__(self) -> None:
        """Make an empty map."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._values: list[V] = []

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, V]]:
        """Yield all runs."""
        return zip(self._starts, self._ends, self._values, strict=True)

    def covers(self, frame: int) -> bool:
        """Tell if a frame has a value."""
        index = bisect_right(self._ends, frame)
        return index < len(self._starts) and self._starts[index] <= frame

    def overlapping(self, start: int, end: int) -> Iterator[tuple[int, int, V]]:
        """Yield the runs, cut to ``[start, end)``, that have a frame in it."""
        if start >= end:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        for index in range(first, last):
            yield max(self._starts[index], start), min(self._ends[index], end), self._values[index]

    def count(self, start: int, end: int) -> int:
        """Return how many frames of ``[start, end)`` have a value."""
        return sum(b - a for a, b, _ in self.overlapping(start, end))

    def set(self, start: int, end: int, value: V) -> None:
        """Give all of ``[start, end)`` one value."""
        self._splice(start, end, [(start, end, value)])

    def clear(self, start: int, end: int) -> None:
        """Forget the values of ``[start, end)``."""
        self._splice(start, end, [])

    def _splice(self, start: int, end: int, middle: list[tuple[int, int, V]]) -> None:
        if start >= end:
            return
        # Runs that only touch the stretch are taken along: they may have the same value.
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        old = list(
            zip(
                self._starts[first:last],
                self._ends[first:last],
                self._values[first:last],
                strict=True,
            )
        )
        pieces = [(a, min(b, start), v) for a, b, v in old if a < start]
        pieces += middle
        pieces += [(max(a, end), b, v) for a, b, v in old if b > end]
        joined: list[tuple[int, int, V]] = []
        for a, b, v in pieces:
            if joined and joined[-1][1] == a and joined[-1][2] == v:
                joined[-1] = (joined[-1][0], b, v)
            else:
                joined.append((a, b, v))
        self._starts[first:last] = [a for a, _, _ in joined]
        self._ends[first:last] = [b for _, b, _ in joined]
        self._values[first:last] = [v for _, _, v in joined]
