"""ftrace's ring buffer as the kernel hands it out: pages of events, one CPU's after another's.

As text a line costs the emulated host a quarter of a millisecond, most of it for names of symbols;
pages are copied as they are, and read here. Source: ``events/header_page`` and
``events/header_event`` of tracefs, Documentation/trace/ring-buffer-map.rst.
"""

import heapq
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

PAGE = 4096
_HEADER = struct.Struct("<QQ")
"""When the page's first event was, and how many bytes of events it has."""
_SIZE = (1 << 20) - 1
_MISSED = 1 << 31
_WORD = struct.Struct("<I")
_ENTRY = struct.Struct("<HBBi")
"""``struct trace_entry``: type, flags, preemption count, thread."""
_ARGUMENTS = struct.Struct("<QQ")
_AT_ARGUMENTS = _ENTRY.size + 8
"""Behind the address that a kprobe is at."""


class Hit(NamedTuple):
    """A probe was hit. ``start`` and ``end`` are 0 but for a probe that takes a range of gfns."""

    stamp: int
    cpu: int
    thread: int
    name: str
    start: int = 0
    end: int = 0


def hits(buffers: Iterable[bytes], names: Mapping[int, str]) -> Iterator[Hit]:
    """Yield all hits in their order; ``names`` are those of the types of events, by number.

    Raises ``ValueError`` if a buffer has lost some.
    """
    return heapq.merge(*(_of_cpu(cpu, data, names) for cpu, data in enumerate(buffers)))


def _of_cpu(cpu: int, data: bytes, names: Mapping[int, str]) -> Iterator[Hit]:
    for at in range(0, len(data), PAGE):
        for stamp, place, size in _events(data[at : at + PAGE]):
            kind, _, _, thread = _ENTRY.unpack_from(data, at + place)
            if kind in names:
                ranged = names[kind] == "zap" and size >= _AT_ARGUMENTS + _ARGUMENTS.size
                found = _ARGUMENTS.unpack_from(data, at + place + _AT_ARGUMENTS) if ranged else ()
                yield Hit(stamp, cpu, thread, names[kind], *found)


def _events(page: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each event's time, where its data is, and how many bytes that has."""
    stamp, commit = _HEADER.unpack_from(page)
    if commit & _MISSED:
        raise ValueError("events are missing")
    at = _HEADER.size
    end = at + (commit & _SIZE)
    while at < end:
        (word,) = _WORD.unpack_from(page, at)
        kind, delta = word & 31, word >> 5
        at += _WORD.size
        first = _WORD.unpack_from(page, at)[0] if at < end else 0
        size = 4 * kind
        match kind:
            case 0:  # the next word is the size, itself included
                yield (stamp := stamp + delta), at + _WORD.size, first - _WORD.size
                size = first
            case 29 if not delta:  # nothing follows on this page
                return
            case 29:  # an event that was discarded
                size = first
            case 30:  # a longer step in time
                stamp += (first << 27) + delta
                size = _WORD.size
            case 31:  # a time, not a step
                stamp = (first << 27) + delta
                size = _WORD.size
            case _:
                yield (stamp := stamp + delta), at, size
        at += size
