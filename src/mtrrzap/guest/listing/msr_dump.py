"""MSR dumps: the text that msr-tools, debuggers and scripts print, and JSON.

Text: ``0x2ff 0xc06``, ``msr 0x2ff = 0xc06``, ``cpu 3: IA32_MTRR_DEF_TYPE: c06``, ``0x2ff: c06 c06``
(one value a processor), and a line ``rdmsr -a 0x2ff`` followed by its output, one value a
processor. A line ``CPU 3:`` names the processor of the next ones. Numbers are hex with or without
0x; ``#`` begins a comment.

JSON: ``{"0x2ff": "0xc06"}``, the same by processor (``{"0": {"0x2ff": "0xc06"}}``, also inside
``{"cpus": {…}}``), or a list of ``{"cpu": 0, "msr": "0x2ff", "value": "0xc06"}``. Strings are hex;
JSON numbers are taken as they are.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.guest.listing.registers import Collector, Listing, hex_number, msr_number

_CPU = re.compile(r"(?:v?cpu)\s*#?(\d{1,4})\s*[:,]?(?:\s+|$)", re.IGNORECASE)
_RDMSR = re.compile(r"(?:[$#+]\s+)?(?:sudo\s+)?rdmsr\b(?P<options>.*?)\s(?P<msr>\w+)\s*$")
_ONE_CPU = re.compile(r"(?:-p|--processor)[ =]?(\d{1,4})\b")
_PAIR = re.compile(
    r"(?:msr\s*)?[\[(]?(?P<msr>\w+)[\])]?\s*(?:[:=]|\s)\s*=?\s*(?P<values>\w+(?:\s+\w+)*)\s*$",
    re.IGNORECASE,
)


class _DumpReader:
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


def read_text(lines: Iterable[str], name: str) -> Listing:
    """Read a dump. Raises ``UserError`` at a line that is not an MSR and its value."""
    reader = _DumpReader(name)
    for number, text in enumerate(lines, start=1):
        reader.line(number, text.strip())
    return reader.kept.listing("MSR dump")


def read_json(text: str, name: str) -> Listing:
    """Read a dump. Raises ``UserError`` where it has another shape."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"not JSON: {error.msg}", place=f"{name}:{error.lineno}", mend="fix the file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            "JSON that cannot be read", place=f"{name}:1", mend="fix the file"
        ) from error
    kept = Collector(name)
    if isinstance(value, dict):
        inner = value.get("cpus", value)
        _by_cpu(kept, inner if isinstance(inner, dict | list) else value)
    else:
        _by_cpu(kept, value)
    return kept.listing("MSR dump in JSON")


def _by_cpu(kept: Collector, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _item(kept, item)
        return
    for key, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            cpu = key.lower().removeprefix("v").removeprefix("cpu").strip()
            if not (cpu.isascii() and cpu.isdecimal() and len(cpu) <= 4):
                raise kept.error(1, f"not a processor's number: {key[:40]!r}", 'write "0": {…}')
            for msr, number in inner.items():
                _put(kept, int(cpu), msr, number)
        else:
            _put(kept, 0, key, inner)


def _item(kept: Collector, item: Any) -> None:
    if not isinstance(item, dict) or not {"msr", "value"} <= item.keys():
        raise kept.error(
            1, "an item without msr and value", 'write {"cpu": 0, "msr": …, "value": …}'
        )
    cpu = item.get("cpu", 0)
    if not isinstance(cpu, int) or cpu < 0:
        raise kept.error(1, f"not a processor's number: {str(cpu)[:40]!r}", "write a number")
    _put(kept, cpu, item["msr"], item["value"])


def _put(kept: Collector, cpu: int, msr: Any, value: Any) -> None:
    number = msr if isinstance(msr, int) else msr_number(msr) if isinstance(msr, str) else None
    what = (
        value if isinstance(value, int) else hex_number(value) if isinstance(value, str) else None
    )
    if number is None or what is None or not 0 <= what < 1 << 64:
        problem = f"not an MSR and its value: {str(msr)[:40]!r}: {str(value)[:40]!r}"
        raise kept.error(1, problem, 'write "0x2ff": "0xc06"')
    kept.put(cpu, number, what, 1)
