"""MSR dumps as text: what msr-tools, debuggers and scripts print.

``0x2ff 0xc06``, ``msr 0x2ff = 0xc06``, ``cpu 3: IA32_MTRR_DEF_TYPE: c06``, ``0x2ff: c06 c06`` (one
value a processor), and a line ``rdmsr -a 0x2ff`` followed by its output, one value a processor. A
line ``CPU 3:`` says of whom the next ones are. Numbers are hex with or without 0x; ``#`` begins a
comment.
"""

import re
from collections.abc import Iterable

from mtrrzap.guest.listing.registers import Collector, Listing, hex_number, msr_number

_CPU = re.compile(r"(?:v?cpu)\s*#?(\d{1,4})\s*[:,]?(?:\s+|$)", re.IGNORECASE)
_RDMSR = re.compile(r"(?:[$#+]\s+)?(?:sudo\s+)?rdmsr\b(?P<options>.*?)\s(?P<msr>\w+)\s*$")
_ONE_CPU = re.compile(r"(?:-p|--processor)[ =]?(\d{1,4})\b")
_PAIR = re.compile(
    r"(?:msr\s*)?[\[(]?(?P<msr>\w+)[\])]?\s*(?:[:=]|\s)\s*=?\s*(?P<values>\w+(?:\s+\w+)*)\s*$",
    re.IGNORECASE,
)


class _Reader:
    def __init__(self, name: str) -> None:
        self.kept = Collector(name)
        self._cpu = 0
        self._msr: int | None = None
        """Of the last rdmsr line; the next bare values are its output."""
        self._next = 0

    def line(self, number: int, text: str) -> None:
        if (command := _RDMSR.match(text)) is not None:
            one = _ONE_CPU.search(command["options"])
            self._msr = msr_number(command["msr"])
            self._next = int(one[1]) if one else 0
            if self._msr is not None:
                return
        text = text.split("#", 1)[0].strip()
        if not text:
            return
        bare = hex_number(text)
        if self._msr is not None and bare is not None:
            self.kept.put(self._next, self._msr, bare, number)
            self._next += 1
            return
        self._msr = None
        self._pair(number, text)

    def _pair(self, number: int, text: str) -> None:
        if (cpu := _CPU.match(text)) is not None:
            if cpu.end() == len(text):
                self._cpu = int(cpu[1])
                return
            text = text[cpu.end() :]
        found = _PAIR.match(text)
        msr = msr_number(found["msr"]) if found else None
        values = [hex_number(word) for word in found["values"].split()] if found else [None]
        if msr is None or None in values:
            raise self.kept.error(
                number, f"not an MSR and its value: {text[:60]!r}", "write 'msr 0x2ff = 0xc06'"
            )
        first = int(cpu[1]) if cpu else self._cpu
        for offset, value in enumerate(values):
            assert value is not None
            self.kept.put(first + offset, msr, value, number)


def read(lines: Iterable[str], name: str) -> Listing:
    """Read a dump. Raises ``UserError`` at a line that is no MSR and value."""
    reader = _Reader(name)
    for number, text in enumerate(lines, start=1):
        reader.line(number, text.strip())
    return reader.kept.listing("MSR dump")
