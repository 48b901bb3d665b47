"""Memslots from QEMU's ``info mtree -f``: the RAM and ROM ranges of the system address space.

KVM's memslots are made from the same flat view: one for each range of RAM or ROM, cut to whole
pages.
"""

import re

from mtrrzap.gfn import PAGE_SHIFT
from mtrrzap.guest.trace import Slot

_RANGE = re.compile(r"^\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (ram|rom|romd)\): (.+)$")


def parse_mtree(text: str) -> tuple[Slot, ...]:
    """Return the memslots of the address space ``memory``, in gfns, by ascending address.

    Neighbours of the same kind are kept apart, as KVM does. Ranges smaller than a page vanish.
    """
    slots = []
    inside = False
    for line in text.splitlines():
        if line.startswith("FlatView #"):
            inside = False
        elif re.match(r'\s+AS "memory",', line):
            inside = True
        elif inside and (match := _RANGE.match(line)):
            start = (int(match[1], 16) + (1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT
            end = (int(match[2], 16) + 1) >> PAGE_SHIFT
            if start < end:
                slots.append(Slot(start, end, "ram" if match[3] == "ram" else "rom"))
    return tuple(sorted(slots))
