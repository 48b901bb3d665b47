"""Sets of parts of guest memory, and when something held on them.

Memory is cut into parts on which everything of interest is uniform. A set of parts is an int: bit n
is part n. So sets are joined, cut and compared as whole integers, and an event costs the same for
three parts as for three hundred.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from mtrrzap.gfn import Range


class Parts:
    """The parts between consecutive edges (gfns)."""

    def __init__(self, edges: Iterable[int]) -> None:
        self._edges = sorted(set(edges))
        self._frames: dict[int, int] = {}

    def __len__(self) -> int:
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


K = TypeVar("K")
C = TypeVar("C")


class Episode(NamedTuple, Generic[K, C]):
    """``key`` held on the parts of ``mask`` from event ``begin`` on, until event ``end``."""

    key: K
    mask: int
    begin: int
    end: int | None
    context: C
    """What the caller knew at the beginning."""
    after: C | None = None
    """What the caller knew at the end."""


class Episodes(Generic[K, C]):
    """Turn the sets of parts on which a key holds after each event into episodes."""

    def __init__(self) -> None:
        self._now: Mapping[K, int] = {}
        self._open: dict[K, list[Episode[K, C]]] = {}
        self._closed: list[Episode[K, C]] = []

    def update(self, event: int, now: Mapping[K, int], context: C) -> None:
        """Take what holds after an event: key -> parts."""
        before = self._now
        self._now = now
        for key, mask in before.items():
            if over := mask & ~now.get(key, 0):
                self._close(key, over, event, context)
        for key, mask in now.items():
            if new := mask & ~before.get(key, 0):
                self._open.setdefault(key, []).append(Episode(key, new, event, None, context))

    def _close(self, key: K, over: int, event: int, context: C) -> None:
        still: list[Episode[K, C]] = []
        for episode in self._open[key]:
            if ended := episode.mask & over:
                self._closed.append(episode._replace(mask=ended, end=event, after=context))
                if left := episode.mask & ~over:
                    still.append(episode._replace(mask=left))
            else:
                still.append(episode)
        self._open[key] = still

    def all(self) -> Iterator[Episode[K, C]]:
        """Yield every episode; one that still holds has no end."""
        yield from self._closed
        for episodes in self._open.values():
            yield from episodes
