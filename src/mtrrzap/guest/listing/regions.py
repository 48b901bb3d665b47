"""Where a machine has RAM and where devices: ``/proc/iomem``, and the e820 lines of a boot log."""

import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.guest.listing.pasted import cleaned, command_of


class Use(Enum):
    """What is at an address. The firmware may have put either behind ``OTHER``."""

    RAM = "RAM"
    DEVICE = "MMIO"
    OTHER = "reserved"


class Region(NamedTuple):
    """A stretch ``[start, end)`` in bytes and its name in the source."""

    start: int
    end: int
    use: Use
    name: str


IOMEM = re.compile(r"^\s*[0-9a-f]{8,16}-[0-9a-f]{8,16} : \S", re.MULTILINE)
E820 = re.compile(r"BIOS-e820: |\(XEN\)\s+(?:\[[^\]]*\]\s*)?\[?[0-9a-f]{16}(?: -|, )")
_IOMEM_ROW = re.compile(r"\s*(?P<first>[0-9a-f]{8,16})-(?P<last>[0-9a-f]{8,16}) : (?P<name>\S.*)$")
_E820_NEW = re.compile(
    r"\[mem 0x(?P<first>[0-9a-f]+)-0x(?P<last>[0-9a-f]+)\]"
    r"\s+(?:[\d.]+\s+[KMGT]?B\s+)?(?P<name>\S.*)$"
)
_E820_OLD = re.compile(
    r"(?P<first>[0-9a-f]{16}) - (?P<end>[0-9a-f]{16}) \(?(?P<name>[A-Za-z][^)]*)\)?$"
)
_E820_XEN = re.compile(r"\[(?P<first>[0-9a-f]{16}), (?P<last>[0-9a-f]{16})\] \((?P<name>[^)]+)\)?$")
_RAM = re.compile(r"System RAM|\busable$|RAM$|Kernel (?:code|data|bss|rodata)|Crash kernel", re.I)
_OTHER = re.compile(
    r"reserved|unusable|ACPI|NVS|ROM|RAM buffer|Persistent|^(?:dax|namespace|region)\d|CXL Window"
    r"|type \d+|Unknown",
    re.I,
)


def is_regions(text: str) -> bool:
    """Tell if a text has such lines."""
    return IOMEM.search(text) is not None or E820.search(text) is not None


def read(text: str, name: str) -> tuple[str, tuple[Region, ...]]:
    """Return the kind of source and its regions, as listed; they may lie inside of one another.

    Raises ``UserError`` at a line that cannot be understood.
    """
    lines = text.split("\n")
    if IOMEM.search(text) is not None:
        what, found = "/proc/iomem", tuple(_iomem(lines, name))
        if all(region.end <= 1 for region in found):
            mend = "read /proc/iomem as root"
            raise UserError("all addresses are 0", place=f"{name}:1", mend=mend)
        return what, found
    return "e820", tuple(_e820(lines, name))


def _iomem(lines: Sequence[str], name: str) -> Iterator[Region]:
    for number, line in enumerate(lines, start=1):
        text = cleaned(line)
        if not text.strip() or command_of(text) is not None:
            continue
        found = _IOMEM_ROW.match(text)
        if found is None:
            raise _unknown(text, f"{name}:{number}", "/proc/iomem")
        yield _region(found, int(found["last"], 16) + 1, _of_iomem)


def _e820(lines: Sequence[str], name: str) -> Iterator[Region]:
    for number, line in enumerate(lines, start=1):
        if E820.search(line) is None or "[gap 0x" in line:
            continue
        text = cleaned(line)
        rows = (_E820_NEW.search(text), _E820_OLD.search(text), _E820_XEN.search(text))
        found = next((row for row in rows if row is not None), None)
        if found is None:
            raise _unknown(text, f"{name}:{number}", "e820")
        inclusive = found.groupdict().get("last")
        end = int(inclusive, 16) + 1 if inclusive else int(found["end"], 16)
        yield _region(found, end, _of_e820)


def _unknown(text: str, place: str, what: str) -> UserError:
    return UserError(
        f"not a line of {what}: {text.strip()[:60]!r}",
        place=place,
        mend="give it as it was printed, or delete it",
    )


def _region(found: re.Match[str], end: int, use: Callable[[str], Use]) -> Region:
    return Region(int(found["first"], 16), end, use(found["name"]), found["name"].strip())


def _of_iomem(name: str) -> Use:
    if _RAM.search(name):
        return Use.RAM
    return Use.OTHER if _OTHER.search(name) else Use.DEVICE


def _of_e820(name: str) -> Use:
    """e820 lists no devices: what it calls reserved may be RAM or a device."""
    return Use.RAM if _RAM.search(name) else Use.OTHER
