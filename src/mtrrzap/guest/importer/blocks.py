"""A capture's bytes in blocks of whole lines, each with the end of the block before it.

Nothing holds more of a capture than one block, and nothing looks at a line that no needle hits.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

SIZE = 1 << 19
"""Bytes gathered before a block is cut; also the longest run without a line end that is kept. Two
of them fit the cache of one core."""
LOOKBACK = 1 << 16
"""Bytes of the block before that stay in reach: what led to an event is near it."""
MAX_LINE = 1 << 10
"""Bytes of the longest line that can be an event; real ones have some 200."""


class Block(NamedTuple):
    """Whole lines in ``data[start:end]``; before them is the end of the block before."""

    data: bytes
    start: int
    end: int
    offset: int
    """Where ``start`` is in the whole capture, in bytes."""

    def line_at(self, position: int) -> tuple[int, int]:
        """Return start and end of the line around a position; an empty stretch if too long."""
        low = max(0, position - MAX_LINE)
        start = self.data.rfind(b"\n", low, position) + 1
        if start == 0 and low > 0:
            return position, position
        end = self.data.find(b"\n", position, start + MAX_LINE)
        return (start, end) if end >= 0 else (position, position)


class Blocks:
    """Iterate over the blocks of a stream of bytes. Afterwards ``cut`` is known."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """``chunks`` may have any size; empty ones are skipped."""
        self._chunks = chunks
        self.cut = False
        """The last line had no line end: it is not in any block."""

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks in order."""
        parts: list[bytes] = []
        start = size = offset = 0
        for chunk in self._chunks:
            parts.append(chunk)
            size += len(chunk)
            if size < start + SIZE:
                continue
            data = b"".join(parts)
            end = data.rfind(b"\n", start) + 1 or start
            if end > start:
                yield Block(data, start, end, offset)
            elif size > start + 2 * SIZE:
                end = len(data)  # no line is that long: what there is of it is dropped
            offset += end - start
            low = max(0, end - LOOKBACK)
            parts, start, size = [data[low:]], end - low, len(data) - low
        data = b"".join(parts)
        end = data.rfind(b"\n", start) + 1 or start
        if end > start:
            yield Block(data, start, end, offset)
        self.cut = bool(data[end:].strip(b"\0 \r\n"))


def line_number(chunks: Iterable[bytes], offset: int) -> int | None:
    """Return the number of the line at an offset, from 1; None if the stream ends before it.

    Counting every line of a capture would cost as much as the search for the few that matter, so
    lines are counted only when one is to be named, by reading the capture again.
    """
    lines = 1
    for chunk in chunks:
        if offset < len(chunk):
            return lines + chunk.count(b"\n", 0, offset)
        lines += chunk.count(b"\n")
        offset -= len(chunk)
    return None
