"""Guest memory cut into parts on which everything of interest is uniform; a set of parts is an int.

Bit n of a mask is part n. Sets of parts are joined, cut and compared as whole integers: an event
costs the same for three parts as for three hundred.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from mtrrzap.gfn import Range


class Parts:
    """The parts between consecutive edges (gfns)."""

    def __init__(self, edges: Iterable[int]) -> None:
        """Sort the edges; fewer than two make no part."""
        self._edges = sorted(set(edges))
        self._frames: dict[int, int] = {}

    def __len__(self) -> int:
        """Return the number of parts."""
        return max(0, len(self._edges) - 1)

    def mask(self, start: int, end: int) -> int:
        """Return the parts in ``[start, end)``; both are edges, or lie outside of all parts."""
        first = bisect_left(self._edges, start)
        last = min(bisect_left(self._edges, end), len(self))
        return (1 << last) - (1 << first) if first < last else 0

    def ranges(self, mask: int) -> Iterator[Range]:
        """Yield the parts of a mask, neighbours joined, ascending."""
        position = 0
        while mask:
            skip = (mask & -mask).bit_length() - 1
            mask >>= skip
            length = (~mask & mask + 1).bit_length() - 1
            mask >>= length
            position += skip
            yield Range(self._edges[position], self._edges[position + length])
            position += length

    def frames(self, mask: int) -> int:
        """Return how many frames the parts of a mask have."""
        found = self._frames.get(mask)
        if found is None:
            found = self._frames[mask] = sum(r.frames for r in self.ranges(mask))
        return found
