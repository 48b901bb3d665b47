"""Scan QEMU's log (-d in_asm,cpu_reset) as it streams by: nothing is stored but what is found."""

import re

from mtrrzap.guest.record.insn import decode

_LINE = re.compile(rb"0x([0-9a-f]+):((?:\s+[0-9a-f]{2}(?![0-9a-f]))+)")
_RESET = re.compile(rb"CPU Reset \(CPU (\d+)\)")
_NEEDLES = re.compile(rb"0f 30|0f 22|CPU Reset")


class LogScanner:
    """Find the linear addresses of WRMSR and MOV to CR0, and the resets of single CPUs.

    QEMU logs an instruction when it translates it, which is before the first time it runs; a reset
    is logged once per CPU, for power-on, machine reset and INIT alike.
    """

    def __init__(self) -> None:
        """Start with nothing found."""
        self.addresses: set[int] = set()
        self._fresh: list[int] = []
        self.resets: list[int] = []
        """CPUs reset, in the order of the log, since ``take_resets``."""
        self._tail = b""
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the log; a line may be cut anywhere between two calls."""
        self.size += len(data)
        data = self._tail + data
        whole = data.rfind(b"\n") + 1
        self._tail = data[whole:]
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
