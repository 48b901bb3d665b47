"""Lines that mail or a terminal has wrapped: an event is read from up to four pieces."""

import re
from collections.abc import Iterator
from itertools import chain, product

from mtrrzap.guest.importer.event_text import EventLine, cr, msr, parse, vcpu_of_name
from mtrrzap.guest.importer.search import Block

_READERS = {b"kvm_msr": msr, b"kvm_cr": cr}
_REST = re.compile(rb"[ \r]*\n[ \t]*(?:[0-9a-f]{1,15}(?:[ \t]+\(#GP\))?|\(#GP\)[^\n]*)[ \t\r]*\n")
"""The end of a value, and what may follow it."""
_OTHER_EVENT = re.compile(rb"\d(?:us\W?)?\s?:\s+(?:\(\+\d+\)\s+)?(?:\w+:)?\w+:\s*\S")
"""A time and the name of an event: a line of its own."""
_WINDOWS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0))
"""Pieces before and after the line, fewest first."""
FRAGMENT = re.compile(
    rb"\bkvm_(?:(?:msr|cr)\b|\w{0,2}[ \t\r]*\n)|\b(?:msr|cr)_(?:read|write)\b|\bLost \d"
)
"""What a needle may miss: an event that is broken before its ``=``, and bpftrace's losses."""


def whole(line: EventLine | None) -> bool:
    """Tell if a line says all that its event has to say."""
    if line is None:
        return False
    reader = _READERS.get(line.event)
    return reader is None or reader(line.body) is not None


def rejoined(
    block: Block, start: int, end: int, line: EventLine | None, *, pasted: bool
) -> tuple[EventLine, int] | None:
    """Return the event of which a line is a piece, and where its last piece ends.

    None: the line stands alone. ``pasted``: the capture is small, so each line is worth a doubt.
    """
    data = block.data
    complete = line if line is not None and line.tid >= 0 and whole(line) else None
    rest = whole(line) and _REST.match(data, end, block.end) is not None
    if complete and not rest and (not pasted or _vcpu(complete) is not None):
        return None
    after = _lines_after(block, end)
    if complete and rest:
        made = [e for e in _events([(start, end), *after[:1]], data) if e.body != complete.body]
        # Without a space if it is the rest of a value.
        return (made[-1], after[0][1]) if made else None
    before = _lines_before(block, start)
    threadless: tuple[EventLine, int] | None = None
    for ahead, behind in _WINDOWS:
        if ahead > len(before) or behind > len(after) or (rest and not behind):
            continue
        pieces = [*reversed(before[:ahead]), (start, end), *after[:behind]]
        made = [e for e in _events(pieces, data) if not (line and e.body == line.body and behind)]
        named = [event for event in made if _vcpu(event) is not None]
        found = named or ([] if complete else [e for e in made if e.tid >= 0])
        if found:
            return found[-1 if rest else 0], pieces[-1][1]
        if made and not ahead and not whole(line):
            threadless = threadless or (made[0], pieces[-1][1])
    return threadless


def _vcpu(line: EventLine) -> int | None:
    return vcpu_of_name(line.name)


def _events(pieces: list[tuple[int, int]], data: bytes) -> Iterator[EventLine]:
    """Yield the events that pieces may make, each joined to the next with a space or without."""
    texts = [data[low:high].strip() for low, high in pieces]
    for joins in product((b" ", b""), repeat=len(texts) - 1):
        text = b"".join(chain(*zip(texts, (*joins, b""), strict=True)))
        event = parse(text, 0, len(text))
        if event is not None and event.event in _READERS and whole(event):
            yield event


def _is_piece(data: bytes, low: int, high: int) -> bool:
    text = data[low:high].strip()
    if not text or text.startswith(b"#"):
        return False
    event = parse(data, low, high)
    if event is None and _OTHER_EVENT.search(data, low, high):
        return False
    return event is None or event.tid < 0 or not whole(event)


def _lines_before(block: Block, start: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while len(found) < 3 and start > 0:
        low, high = block.line_at(start - 1)
        if low == high or not _is_piece(block.data, low, high):
            break
        found.append((low, high))
        start = low
    return found


def _lines_after(block: Block, end: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while len(found) < 3 and end + 1 < block.end:
        low, high = block.line_at(end + 1)
        if low == high or not _is_piece(block.data, low, high):
            break
        found.append((low, high))
        end = high
    return found
