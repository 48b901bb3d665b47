"""What is near an event on the same thread: the exit before it and the entry behind it."""

import re

from mtrrzap.guest.importer.blocks import LOOKBACK, Block
from mtrrzap.guest.importer.line import Line, parse

TRIES = 64
"""Lines of other threads looked at on the way; many vCPUs at once stay below it."""
_RESET_VECTOR = re.compile(rb"rip[ =]0xfff0(?![0-9a-f])")
ENTRY = b"kvm_entry:"
EXIT = b"kvm_exit:"


class Absence:
    """Remembers where a needle is not: a capture without it is not searched at every event."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._upto: dict[bytes, int] = {}
        """Offset in the capture below which the needle is not near, by needle."""

    def near(self, block: Block, position: int, needle: bytes) -> bool:
        """Tell if the needle is less than ``LOOKBACK`` before a position; positions ascend."""
        first = block.offset - block.start
        low = max(0, position - LOOKBACK, self._upto.get(needle, 0) - first)
        if block.data.rfind(needle, low, position) >= 0:
            return True
        self._upto[needle] = first + position - len(needle)
        return False


def _event(block: Block, position: int, tid: int) -> Line | None:
    start, end = block.line_at(position)
    if block.data.find(b"%d" % tid, start, end) < 0:
        return None
    line = parse(block.data, start, end)
    return line if line is not None and line.tid == tid else None


def before(block: Block, position: int, tid: int, needle: bytes) -> tuple[Line, int] | None:
    """Return the thread's last such event before a position, and where it is; None if not near."""
    low = max(0, position - LOOKBACK)
    for _ in range(TRIES):
        position = block.data.rfind(needle, low, position)
        if position < 0:
            return None
        if (line := _event(block, position, tid)) is not None:
            return line, position
    return None


def exit_before(block: Block, position: int, tid: int) -> Line | None:
    """Return the kvm_exit that led to an event: no kvm_entry of the thread lies between."""
    found = before(block, position, tid, EXIT)
    if found is None:
        return None
    line, where = found
    between = before(block, position, tid, ENTRY)
    return line if between is None or between[1] < where else None


def entry_after(block: Block, position: int, tid: int) -> tuple[Line | None, bool]:
    """Return the thread's first kvm_entry behind a position, and if the next block may have it."""
    high = min(block.end, position + LOOKBACK)
    for _ in range(TRIES):
        position = block.data.find(ENTRY, position, high)
        if position < 0:
            return None, high == block.end
        if (line := _event(block, position, tid)) is not None:
            return line, False
        position += 1
    return None, False


def reset_before(block: Block, position: int, tid: int) -> Line | None:
    """Return the thread's nearest kvm_entry at the reset vector, f000:fff0.

    Firmware writes CR0 within a few instructions of it: the write is the place to look from.
    """
    low = max(0, position - LOOKBACK)
    for _ in range(TRIES):
        position = block.data.rfind(b"0xfff0", low, position)
        if position < 0:
            return None
        line = _event(block, position, tid)
        if line is not None and line.event == b"kvm_entry" and _RESET_VECTOR.search(line.body):
            return line
    return None
