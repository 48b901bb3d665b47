"""Lists of MTRRs as ranges with sizes: FreeBSD's ``memcontrol list``, and fwts' overview."""

import re
from collections.abc import Sequence

from mtrrzap.guest.listing.linux import put_range_list
from mtrrzap.guest.listing.pasted import cleaned, command_of
from mtrrzap.guest.listing.registers import Collector, Listing, Range
from mtrrzap.x86.memtype import MemType

MEMCONTROL = re.compile(r"^[ \t]*0x[0-9a-f]+/0x[0-9a-f]+ \S+ ", re.MULTILINE)
FWTS = re.compile(r"^\s*(?:\S+ |\d{5}\s+\w+\s+)?MTRR overview\s*$", re.MULTILINE)
_M_ROW = re.compile(
    r"0x(?P<base>[0-9a-f]{1,16})/0x(?P<size>[0-9a-f]{1,16}) (?P<owner>\S+)(?P<flags>[a-z -]*)$"
)
_FLAGS = {
    "uncacheable": MemType.UC,
    "write-combine": MemType.WC,
    "write-through": MemType.WT,
    "write-back": MemType.WB,
    "write-protect": MemType.WP,
}
_SILENT = {"force", "fixed-base", "fixed-length", "set-by-firmware", "active", "unknown", "bogus"}
_WHOLE = [1 << bits for bits in range(36, 53)]
_F_PREFIX = re.compile(r"^\d{5}\s+\w+\s*")
_F_ROW = re.compile(
    r"Reg (?P<reg>\d{1,3}): (?:(?P<off>disabled)|0x(?P<start>[0-9a-f]{8,16}) - "
    r"0x(?P<end>[0-9a-f]{8,16}) \(\s*\d+ [KM]B\)\s+(?P<type>[A-Za-z-]+))$"
)
_F_KINDS = {
    "uncached": MemType.UC,
    "write-combining": MemType.WC,
    "write-through": MemType.WT,
    "write-protect": MemType.WP,
    "write-back": MemType.WB,
}


def read_memcontrol(lines: Sequence[str], name: str, maxphyaddr: int | None = None) -> Listing:
    """Read ``memcontrol list``, with or without ``-a``."""
    kept = Collector(name)
    ranges: list[Range] = []
    types, fixed, variable, width = bytearray(0x100), 0, 0, maxphyaddr
    for number, line in enumerate(lines, start=1):
        text = cleaned(line).strip()
        if not text or command_of(text) is not None:
            continue
        found = _M_ROW.match(text)
        flags = found["flags"].split() if found else ["?"]
        kinds = [_FLAGS[flag] for flag in flags if flag in _FLAGS]
        active = "active" in flags
        wrong = set(flags) - _FLAGS.keys() - _SILENT
        if found is None or wrong or (active and (len(kinds) != 1 or "bogus" in flags)):
            problem = f"not a line of memcontrol list: {text[:60]!r}"
            raise kept.error(number, problem, "give it as it was printed, or delete it")
        base, size = int(found["base"], 16), int(found["size"], 16)
        if "fixed-base" in flags:
            fixed = number
            first, end = base >> 12, base + size >> 12
            types[first:end] = bytes([kinds[0] if kinds else MemType.UC]) * (
                min(end, 0x100) - first
            )
        elif active:
            ranges.append(Range(variable, base, size, kinds[0], number))
        else:
            # The size of a register that is off is that of an empty mask: all addresses.
            width = size.bit_length() - 1 if size in _WHOLE else width
        variable += "fixed-base" not in flags
    if len(ranges) == variable:
        kept.notes.append("the ranges are numbered in the order of the list, which has no numbers")
    if fixed:
        kept.put_fixed(types, fixed)
    return put_range_list(kept, "memcontrol list", ranges, maxphyaddr or width, fixed=bool(fixed))


def read_fwts(lines: Sequence[str], name: str, maxphyaddr: int | None = None) -> Listing:
    """Read fwts' ``MTRR overview``, which has what ``/proc/mtrr`` has."""
    kept = Collector(name)
    ranges: list[Range] = []
    start, ended = next(n for n, line in enumerate(lines) if FWTS.match(line)), False
    for number, line in enumerate(lines[start:], start=start + 1):
        text = _F_PREFIX.sub("", cleaned(line)).strip()
        if not re.match(r"Reg \d", text) and (ended or not text or number < start + 3):
            ended |= not text
            if "inconsistent" in text:
                kept.notes.append(f"line {number}: fwts says: {text[:80]}")
            continue
        found = _F_ROW.match(text)
        kind = _F_KINDS.get((found["type"] or "").lower()) if found else None
        if found is None or (kind is None and not found["off"]):
            problem = f"not a line of fwts' MTRR overview: {text[:60]!r}"
            raise kept.error(number, problem, "give it as it was printed, or delete it")
        if kind is not None:
            base = int(found["start"], 16)
            size = int(found["end"], 16) - base
            ranges.append(Range(int(found["reg"]), base, size, kind, number))
    if not ranges:
        problem = "no range under 'MTRR overview'"
        raise kept.error(start + 1, problem, "give the lines that begin with 'Reg 0:'")
    return put_range_list(kept, "fwts' MTRR overview", ranges, maxphyaddr)
