"""Which cells are still to be run, in a bit each; and who runs which.

Neighbouring cells share a guest, which takes longer to prepare than to simulate. So each lane has
a stretch of the grid to itself, and at its end takes half of what the longest one has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Pending:
    """The cells of a grid that nobody runs or has run."""

    def __init__(self, cells: int, together: int = 1) -> None:
        """``together`` neighbours share a guest: they are not divided between lanes."""
        self._cells = cells
        self._together = together
        self._gone = bytearray(-(-cells // 8))
        self.left = cells
        self._stretches: dict[int, tuple[int, int]] = {}
        self._whole = (0, cells)

    def drop(self, numbers: Iterable[int]) -> int:
        """Take cells out; return how many of them were in."""
        before = self.left
        for number in numbers:
            self._take(number)
        return before - self.left

    def _take(self, number: int) -> bool:
        byte, bit = number >> 3, 1 << (number & 7)
        if self._gone[byte] & bit:
            return False
        self._gone[byte] |= bit
        self.left -= 1
        return True

    def put_back(self, lane: int, numbers: Sequence[int]) -> None:
        """Take the last cells of a lane's task in again: it goes on with them."""
        for number in numbers:
            self._gone[number >> 3] &= ~(1 << (number & 7))
        self.left += len(numbers)
        if numbers:
            _, end = self._stretches[lane]
            self._stretches[lane] = (numbers[0], max(end, numbers[-1] + 1))

    def __contains__(self, number: int) -> bool:
        """Tell if a cell is still to be run."""
        return not self._gone[number >> 3] & 1 << (number & 7)

    def next(self, lane: int, count: int) -> tuple[int, ...]:
        """Return up to so many cells for a lane; none if none are left."""
        found: list[int] = []
        while len(found) < count and self.left:
            start, end = self._stretches.get(lane, (0, 0))
            if start >= end:
                if found:  # no stretch is begun in the middle of a task
                    break
                start, end = self._stretch()
            start = self._skip(start, end)
            if start < end and self._take(start):
                found.append(start)
                start += 1
            self._stretches[lane] = (start, end)
        return tuple(found)

    def _skip(self, start: int, end: int) -> int:
        """Return the first cell from ``start`` on that is in, eight at a time where none is."""
        while start < end:
            if start & 7 == 0 and self._gone[start >> 3] == 0xFF:
                start += 8
            elif start in self:
                return start
            else:
                start += 1
        return end

    def _stretch(self) -> tuple[int, int]:
        if not self._stretches:
            return self._whole
        other = max(self._stretches, key=lambda at: self._stretches[at][1] - self._stretches[at][0])
        start, end = self._stretches[other]
        middle = (start + end) // 2 // self._together * self._together
        if middle <= start:
            middle = start + (end - start) // 2
        self._stretches[other] = (start, middle)
        return middle, end
