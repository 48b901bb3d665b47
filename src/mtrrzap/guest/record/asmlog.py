"""Scan QEMU's log (-d in_asm,cpu_reset) as it arrives; only the findings are stored."""

import re
from collections.abc import Set as AbstractSet

from mtrrzap.gfn import PAGE_SHIFT
from mtrrzap.guest.record.insn import decode

_LINE = re.compile(rb"0x([0-9a-f]+):((?:\s+[0-9a-f]{2}(?![0-9a-f]))+)")
_RESET = re.compile(rb"CPU Reset \(CPU (\d+)\)")
_NEEDLES = re.compile(rb"0f 30|0f 22|CPU Reset")
_BLOCK = re.compile(rb"^IN:[^\n]*\n0x([0-9a-f]+)", re.MULTILINE)
_LAST = (1 << 64) - 1


class LogScanner:
    """Find the linear addresses of WRMSR and MOV to CR0, and the resets of single CPUs.

    QEMU logs an instruction when it translates it, before the instruction first runs. It logs each
    reset of a CPU, whether by power-on, machine reset or INIT.
    """

    def __init__(self) -> None:
        self.addresses: set[int] = set()
        self.pages: set[int] = set()
        """Linear page numbers in which a block of translated code starts."""
        self._fresh: list[int] = []
        self.resets: list[int] = []
        """CPUs reset, in the order of the log, since ``take_resets``."""
        self._tail = b""
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the log. A line may be split between two calls."""
        self.size += len(data)
        data = self._tail + data
        whole = data.rfind(b"\n") + 1
        self._tail = data[whole:]
        # If a call ends between a block's header and its first line, the block's page is missed,
        # and the next pass logs that page again.
        self.pages.update(int(m[1], 16) >> PAGE_SHIFT for m in _BLOCK.finditer(data, 0, whole))
        seen = -1
        for match in _NEEDLES.finditer(data, 0, whole):
            start = data.rfind(b"\n", 0, match.start()) + 1
            if start != seen:
                seen = start
                self._line(data[start : data.index(b"\n", start)])

    def _line(self, line: bytes) -> None:
        if match := _LINE.match(line):
            code = bytes.fromhex(match[2].decode())
            address = int(match[1], 16)
            known = address in self.addresses
            if not known and (decode(code, long_mode=False) or decode(code, long_mode=True)):
                self.addresses.add(address)
                self._fresh.append(address)
        elif match := _RESET.search(line):
            self.resets.append(int(match[1]))

    def take_addresses(self) -> list[int]:
        """Return the addresses found since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def take_resets(self) -> list[int]:
        """Return the numbers of the CPUs reset since the last call, in the order of the log."""
        resets, self.resets = self.resets, []
        return resets


def other_pages(pages: AbstractSet[int], limit: int) -> list[tuple[int, int]]:
    """Return all addresses outside ``pages`` as inclusive ranges, at most ``limit`` of them.

    To keep to the limit, the smallest gaps between the pages count as pages too.
    """
    gaps = []
    start = 0
    for page in sorted(pages):
        if page << PAGE_SHIFT > start:
            gaps.append((start, (page << PAGE_SHIFT) - 1))
        start = (page + 1) << PAGE_SHIFT
    if start < _LAST:
        gaps.append((start, _LAST))
    largest = sorted(gaps, key=lambda gap: gap[0] - gap[1])[:limit]
    return sorted(largest)
