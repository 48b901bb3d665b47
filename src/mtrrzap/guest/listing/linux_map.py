"""The map of memory types that Linux makes from its MTRRs and prints at boot, since v6.5.

Its first line is always there, ``MTRR map: 5 entries (3 fixed + 2 variable; max 23), built from 10
variable MTRRs``; the entries follow with ``mtrr=debug`` only. Commits "x86/mtrr: Construct a memory
map with cache modes" and "x86/mtrr: Add mtrr=debug command line option" (both in v6.5).
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.x86.memtype import MemType

TYPES = {
    "uncachable": MemType.UC,
    "write-combining": MemType.WC,
    "write-through": MemType.WT,
    "write-protect": MemType.WP,
    "write-back": MemType.WB,
}
"""``mtrr_attrib_to_str``."""

HEADER = re.compile(r"MTRR map: (?P<entries>\d{1,5}) entries \((?P<fixed>\d{1,5}) fixed \+ ")
_TOM2 = re.compile(r"TOM2: (?P<tom2>[0-9a-f]{16})\b")
_ENTRY = re.compile(
    r"(?:^|\s)(?P<number>\d{1,3}): (?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16}) (?P<type>"
    + "|".join(TYPES)
    + r")\s*$"
)


class KernelMapEntry(NamedTuple):
    """A stretch ``[start, end)`` in bytes with one type."""

    start: int
    end: int
    type: MemType


class KernelMap(NamedTuple):
    """The map. Memory outside of all entries has the default type, which the map does not give."""

    fixed: int
    """Entries, the first ones, that the fixed MTRRs made."""
    announced: int
    """Entries by the first line; there may be fewer here, if the log was cut."""
    entries: tuple[KernelMapEntry, ...]
    tom2: int = 0
    """AMD's TOM2, if the log has it: from 4 GiB up to it memory is WB without any MTRR."""


def tom2(lines: Iterable[str]) -> int:
    """Return the last TOM2 of a log in bytes, 0 if it has none."""
    found = 0
    for text in lines:
        if "TOM2" in text and (line := _TOM2.search(text)) is not None:
            found = int(line["tom2"], 16)
    return found


def read(lines: Iterable[str], name: str, before: int = 0) -> KernelMap | None:
    """Return the last map of a log, None if it has none. ``before`` is the number of lines before.

    Raises ``UserError`` for an entry that is empty, that overlaps the one before it, or whose
    predecessor is missing.
    """
    found: KernelMap | None = None
    top = 0
    for number, text in enumerate(lines, start=before + 1):
        if "MTRR map" in text and (head := HEADER.search(text)) is not None:
            found = KernelMap(int(head["fixed"]), int(head["entries"]), (), top)
        elif "TOM2" in text and (line := _TOM2.search(text)) is not None:
            top = int(line["tom2"], 16)
        elif found is None or ("write-" not in text and "uncachable" not in text):
            continue
        elif (line := _ENTRY.search(text.rstrip("\"',}] "))) is not None:
            if int(line["number"]) != len(found.entries):
                raise UserError(
                    f"entry {line['number']} of the MTRR map comes after {len(found.entries)}",
                    place=f"{name}:{number}",
                    mend="give the lines as the kernel printed them",
                )
            entry = KernelMapEntry(
                int(line["first"], 16), int(line["last"], 16) + 1, TYPES[line["type"]]
            )
            if not (found.entries[-1].end if found.entries else 0) <= entry.start < entry.end:
                raise UserError(
                    f"not above the entry before it: {text.strip()[-60:]!r}",
                    place=f"{name}:{number}",
                    mend="give the lines as the kernel printed them",
                )
            found = found._replace(entries=(*found.entries, entry))
    return found


def alone(found: KernelMap, name: str) -> tuple[str, ...]:
    """Return notes on a map without registers. Raises ``UserError`` if it is empty."""
    if not found.entries:
        if found.announced:
            problem = f"only the number of entries is in it ({found.announced})"
            mend = "boot with mtrr=debug, which makes Linux v6.5 and newer print them"
        else:
            problem = "the kernel's MTRR map has no entries: the MTRRs are off or empty"
            mend = "give an MSR dump, which has the default type"
        raise UserError(problem, place=f"{name}:1", mend=mend)
    missing = found.announced - len(found.entries)
    return (
        "a map has types but no registers: it cannot show which register decided, what overlaps "
        "and which rules are broken",
        "memory outside of all entries has the default type, which the map does not give",
        *([f"the log has been cut: {missing} entries are missing"] if missing > 0 else []),
    )
