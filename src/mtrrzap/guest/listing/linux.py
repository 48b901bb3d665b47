"""What Linux prints of its MTRRs: ``/proc/mtrr``, and the boot log with ``mtrr=debug``.

``print_mtrr_state`` in arch/x86/kernel/cpu/mtrr/generic.c prints the log's lines: up to v6.4 at
debug level, later only with ``mtrr=debug``. The older form, by ``print_out_mtrr_range_state`` in
cleanup.c, has the variable ranges only. ``linux_map`` reads the map that v6.5 and newer also print.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mtrrzap.guest.listing import linux_map
from mtrrzap.guest.listing.linux_map import TYPES
from mtrrzap.guest.listing.registers import Collector, Listing
from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType

_SHORT = {"UC": MemType.UC, "WC": MemType.WC, "WT": MemType.WT, "WP": MemType.WP, "WB": MemType.WB}
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_TYPE = "(?P<type>" + "|".join(TYPES) + ")"

PROC = re.compile(
    rf"reg(?P<reg>\d\d): base=0x(?P<base>[0-9a-f]{{1,16}}) \(\s*\d+[KMGT]B\), "
    rf"size=\s*(?P<size>\d{{1,9}})(?P<unit>[KMGT])B(?:, count=\d+)?: {_TYPE}"
)
DEFAULT = re.compile(rf"MTRR default type: {_TYPE}")
CLEANUP = re.compile(
    r"reg (?P<reg>\d{1,2}), base: (?P<base>\d{1,9})(?P<base_unit>[KMGT])B, "
    r"range: (?P<size>\d{1,9})(?P<unit>[KMGT])B, type (?P<type>UC|WC|WT|WP|WB)\b"
)
_CLEANUP_BEGIN = re.compile(r"(?:original|New) variable MTRRs")
_SECTION = re.compile(r"MTRR (?P<what>fixed|variable) ranges (?P<state>enabled|disabled):")
_FIXED = re.compile(rf"(?:^|\s)(?P<first>[0-9A-F]{{5}})-(?P<last>[0-9A-F]{{5}}) {_TYPE}\s*$")
_VARIABLE = re.compile(
    r"(?:^|\s)(?P<reg>\d{1,2}) base (?P<base>[0-9A-F]{4,16}) mask (?P<mask>[0-9A-F]{4,16}) " + _TYPE
)
_DISABLED = re.compile(r"(?:^|\s)(?P<reg>\d{1,2}) disabled\s*$")


class _Range(NamedTuple):
    """One variable range, before it is known how wide physical addresses are."""

    reg: int
    base: int
    size: int
    kind: MemType
    line: int


def _put_ranges(kept: Collector, ranges: Sequence[_Range], name: str, given: int | None) -> Listing:
    """Turn (base, size) into registers; masks get as many bits as the highest address needs."""
    end = max((r.base + r.size for r in ranges), default=1)
    width = given or min(52, max(36, (end - 1).bit_length()))
    for r in ranges:
        if r.reg >= m.VCNT:
            raise kept.error(r.line, f"range {r.reg}: KVM has {m.VCNT}", "leave the range out")
        if not r.size or r.size & (r.size - 1):
            raise kept.error(
                r.line,
                f"a size of {r.size:#x} is not a power of two, so no single mask has it",
                "give an MSR dump instead",
            )
        mask = ((1 << width) - r.size) & ((1 << width) - 1) & ~0xFFF
        kept.put(0, m.PHYSBASE0 + 2 * r.reg, r.base | r.kind, r.line)
        kept.put(0, m.PHYSBASE0 + 2 * r.reg + 1, mask | m.PHYSMASK_V, r.line)
    only_uc = all(r.kind is MemType.UC for r in ranges)
    default = MemType.WB if only_uc else MemType.UC
    kept.put(0, m.DEF_TYPE, m.DEF_TYPE_E | default, ranges[0].line if ranges else 1)
    listing = kept.listing(name)
    why = "all ranges are UC" if only_uc else "not all ranges are UC"
    return listing._replace(
        maxphyaddr=width,
        notes=(
            f"{name} has no default type: {default} is assumed, because {why}",
            f"{name} has no fixed MTRRs: they are assumed to be disabled",
            *([] if given else [f"{name} has no MAXPHYADDR: {width} bits are assumed"]),
        ),
    )


def read_proc(lines: Iterable[str], name: str, maxphyaddr: int | None = None) -> Listing:
    """Read ``/proc/mtrr``. Raises ``UserError`` for a range that KVM's MTRRs cannot hold."""
    kept = Collector(name)
    ranges = []
    for number, text in enumerate(lines, start=1):
        if (found := PROC.search(text)) is not None:
            size = int(found["size"]) * _UNITS[found["unit"]]
            kind = TYPES[found["type"]]
            ranges.append(_Range(int(found["reg"]), int(found["base"], 16), size, kind, number))
        elif text.strip():
            raise kept.error(number, f"not a line of /proc/mtrr: {text[:60]!r}", "delete it")
    return _put_ranges(kept, ranges, "/proc/mtrr", maxphyaddr)


def read_cleanup(lines: Iterable[str], name: str, maxphyaddr: int | None = None) -> Listing:
    """Read a boot log's ``reg 0, base: 0GB, range: 2GB, type WB``; the last list counts."""
    kept = Collector(name)
    ranges: list[_Range] = []
    for number, text in enumerate(lines, start=1):
        if _CLEANUP_BEGIN.search(text):
            ranges.clear()
        elif (found := CLEANUP.search(text)) is not None:
            base = int(found["base"]) * _UNITS[found["base_unit"]]
            size = int(found["size"]) * _UNITS[found["unit"]]
            kind = _SHORT[found["type"]]
            ranges.append(_Range(int(found["reg"]), base, size, kind, number))
    return _put_ranges(kept, ranges, "the boot log's list of variable MTRRs", maxphyaddr)


class _Log:
    """The state of reading one boot log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.begin(MemType.UC, 1)

    def begin(self, default: MemType, line: int) -> None:
        self.kept = Collector(self._name)
        self._section = ""
        self._bytes = bytearray(b"\0" * 0x100000)
        self._def_type = int(default)
        self.first_line = line
        self._digits = 0
        self._fixed_line = 0

    def line(self, number: int, text: str) -> None:
        if (found := DEFAULT.search(text)) is not None:
            self.begin(TYPES[found["type"]], number)
        elif (found := _SECTION.search(text)) is not None:
            self._section = found["what"]
            if found["state"] == "enabled":
                fixed = found["what"] == "fixed"
                self._def_type |= m.DEF_TYPE_FE if fixed else m.DEF_TYPE_E
        elif self._section == "fixed" and (found := _FIXED.search(text)) is not None:
            first, last = int(found["first"], 16), int(found["last"], 16)
            if first <= last:
                kind = bytes([TYPES[found["type"]]])
                self._bytes[first : last + 1] = kind * (last + 1 - first)
                self._fixed_line = number
        elif self._section == "variable":
            self._variable(number, text)

    def _variable(self, number: int, text: str) -> None:
        if (found := _VARIABLE.search(text)) is not None:
            reg = int(found["reg"])
            if reg >= m.VCNT:
                raise self.kept.error(number, f"range {reg}: KVM has {m.VCNT}", "leave it out")
            base = int(found["base"], 16) | TYPES[found["type"]]
            self._digits = max(self._digits, len(found["mask"]))
            mask = int(found["mask"], 16) | m.PHYSMASK_V
            self.kept.put(0, m.PHYSBASE0 + 2 * reg, base, number)
            self.kept.put(0, m.PHYSBASE0 + 2 * reg + 1, mask, number)
        elif (found := _DISABLED.search(text)) is not None and int(found["reg"]) < m.VCNT:
            self.kept.put(0, m.PHYSBASE0 + 2 * int(found["reg"]) + 1, 0, number)

    def listing(self) -> Listing:
        for fixed in m.FIXED if self._fixed_line else ():
            types = bytes(self._bytes[fixed.start + i * fixed.step] for i in range(8))
            self.kept.put(0, fixed.msr, int.from_bytes(types, "little"), self._fixed_line)
        self.kept.put(0, m.DEF_TYPE, self._def_type, self.first_line)
        listing = self.kept.listing("boot log")
        width = listing.maxphyaddr or 0
        digits = self._digits
        if 4 * digits - 15 <= width <= 4 * digits - 12:
            # v6.5 and newer count bytes as pages there, which makes three digits too many.
            digits -= 3
        if digits and width < 4 * digits - 3:
            # The kernel prints masks with as many digits as physical addresses need.
            width = min(52, max(32, 4 * digits))
        return listing._replace(maxphyaddr=width or None)


def read_log(lines: Sequence[str], name: str) -> Listing:
    """Read a boot log with ``MTRR default type``; the last such block counts."""
    log = _Log(name)
    for number, text in enumerate(lines, start=1):
        log.line(number, text)
    return log.listing()._replace(kernel_map=linux_map.read(lines[log.first_line - 1 :], name))


def read_map(lines: Iterable[str], name: str) -> Listing:
    """Read a boot log that has a map of v6.5 or newer, and no register."""
    found = linux_map.read(lines, name)
    assert found is not None, "the caller saw its first line"
    notes = linux_map.alone(found, name)
    return Listing("the boot log's MTRR map", (), None, notes, found)
