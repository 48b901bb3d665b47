"""The code segment: GDB reports RIP as an offset into it, breakpoints are linear addresses."""

import re
from typing import NamedTuple

from mtrrzap.guest.record.rsp import ProtocolError

_CS = re.compile(r"^CS =([0-9a-f]{4}) ([0-9a-f]{8,16}) [0-9a-f]{8} ([0-9a-f]{8})", re.MULTILINE)
_EFER = re.compile(r"^EFER=([0-9a-f]{16})", re.MULTILINE)
_CS_L = 1 << 21
_LMA = 1 << 10


class Segment(NamedTuple):
    """Base of CS, and whether it is a 64-bit one (where the base does not count)."""

    base: int
    long_mode: bool
    cpl: int
    """The low bits of the selector: the privilege level, if in protected mode."""

    def linear(self, rip: int) -> int:
        """Return the linear address of an offset into the segment."""
        return rip if self.long_mode else self.base + rip & 0xFFFF_FFFF


def parse_cs(text: str) -> Segment:
    """Read CS out of the monitor's ``info registers``."""
    code = _CS.search(text)
    efer = _EFER.search(text)
    if code is None:
        raise ProtocolError("the monitor's register dump has no CS")
    flags = int(code[3], 16)
    lma = int(efer[1], 16) & _LMA if efer else 0
    selector = int(code[1], 16)
    return Segment(int(code[2], 16), long_mode=bool(lma and flags & _CS_L), cpl=selector & 3)
