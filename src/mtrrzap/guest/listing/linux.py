"""What Linux and Xen print of their MTRRs: ``/proc/mtrr``, and the boot log with ``mtrr=debug``.

``print_mtrr_state`` in arch/x86/kernel/cpu/mtrr/generic.c prints the log's lines: up to v6.4 at
debug level, later only with ``mtrr=debug``. Xen's file of the same name prints them in lower case,
with its prefix. ``print_out_mtrr_range_state`` in cleanup.c lists variable ranges only, as sizes.
``linux_map`` reads the map that v6.5 and newer also print.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress

from mtrrzap.guest.listing import linux_map
from mtrrzap.guest.listing.linux_map import TYPES
from mtrrzap.guest.listing.pasted import cleaned, command_of, joined
from mtrrzap.guest.listing.registers import Collector, Listing, Range, some
from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType

_SHORT = {"UC": MemType.UC, "WC": MemType.WC, "WT": MemType.WT, "WP": MemType.WP, "WB": MemType.WB}
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_TYPE = "(?P<type>" + "|".join(TYPES) + r")(?![\w-])"
_HEX = "[0-9A-Fa-f]"
_NO_WORD = r"(?<![\w-])"

PROC = re.compile(
    rf"reg(?P<reg>\d{{2,3}}): base=0x(?P<base>[0-9a-fA-F]{{1,16}}) "
    rf"\(\s*(?P<told>\d{{1,9}})(?P<told_unit>[KMGT])B\), "
    rf"size=\s*(?P<size>\d{{1,9}})(?P<unit>[KMGT])B(?:, count=\d+)?: {_TYPE}"
)
PROC_HEAD = re.compile(r"reg\d{2,3}: base=0x")
HEAD = re.compile(r"MTRR default type:")
CLEANUP = re.compile(
    r"reg (?P<reg>\d{1,3}), base: (?P<base>\d{1,9})(?P<base_unit>[KMGT])B, "
    r"range: (?P<size>\d{1,9})(?P<unit>[KMGT])B, type (?P<type>UC|WC|WT|WP|WB)\b"
)
CLEANUP_HEAD = re.compile(r"base: \d{1,9}[KMGT]B\b")
_CLEANUP_ROW = re.compile(r"(?:base|range): \d{1,9}[KMGT]B\b")
DISABLED = re.compile(r"\bMTRR: Disabled|\bMTRRs disabled")
"""What Linux says of a processor whose firmware left the MTRRs off."""
KERNEL = re.compile(r"\bLinux version \d|\bCommand line: ")
"""What says that a text is a boot log."""
CUT = re.compile(
    rf"MTRR (?:fixed|variable) ranges|{_HEX}{{5}}-{_HEX}{{5}}\s+{_TYPE}|base {_HEX}{{7,}} mask "
)
"""What follows the first line of the block."""
_DEFAULT = re.compile(rf"MTRR default type:\s+{_TYPE}")
_CLEANUP_BEGIN = re.compile(r"(?P<which>original|New) variable MTRRs")
_WORDS = ("base", "disabled", "mask", "MTRR")
"""One of them is in every line of the variable ranges, and of what follows them."""
_SECTION_HEAD = re.compile(r"MTRR (?:fixed|variable) ranges")
_SECTION = re.compile(r"MTRR (?P<what>fixed|variable) ranges\s+(?P<state>enabled|disabled)")
_FIXED = re.compile(rf"{_NO_WORD}(?P<first>{_HEX}{{5}})-(?P<last>{_HEX}{{5}})\s+{_TYPE}\s*$")
_BEGIN = r"(?:^|[\])>:]\s?|\s\s)\s*"
"""What stands before a register's number: 'CPU 1 disabled' is not one of its lines."""
_VARIABLE = re.compile(
    rf"{_BEGIN}(?P<reg>\d{{1,3}})\s+(?:(?P<off>disabled)|base\s+(?P<base>{_HEX}{{4,16}})\s+"
    rf"mask\s+(?P<mask>{_HEX}{{4,16}})\s+{_TYPE})\s*$"
)
_LIKE = {
    "": re.compile(rf"{_BEGIN}\d{{1,3}} base {_HEX}{{4,}}"),
    "fixed": re.compile(rf"{_NO_WORD}{_HEX}{{5}}-(?:{_HEX}{{5}})?(?![\w-])|{_NO_WORD}{_TYPE}$"),
    "variable": re.compile(
        rf"{_BEGIN}\d{{1,3}}\s+(?:base|disabled)\b|\bbase {_HEX}{{4,}}|\bmask {_HEX}{{4,}}"
    ),
}
"""Lines that a section's registers would have, had the paste not changed them."""
_LISTS = ("MTRRs", "base: ", "range: ")
_LATER = ("inconsistent", "PAT", "aka ")
_OPTIMAL = re.compile(r"Found optimal setting for mtrr clean up")
_INCONSISTENT = re.compile(r"your CPUs had inconsistent (?P<what>[\w ]+?) settings")
_PAT_NAMES = {"UC-": MemType.UC_MINUS, **_SHORT}
_PAT = re.compile(r"PAT: Configuration \[0-7\]:\s+(?P<types>(?:(?:UC-|UC|W[BCTP])\s*){8})$")
_PAT_HEAD = re.compile(r"PAT: Configuration \[0-7\]:")
_TOM2_LIKE = re.compile(r"\baka \d+M$")
_OLD_PAT = re.compile(r"x86 PAT enabled: .* new 0x(?P<pat>[0-9a-f]{1,16})")


def put_range_list(
    kept: Collector, what: str, ranges: Sequence[Range], given: int | None, *, fixed: bool = False
) -> Listing:
    """Make a listing of variable ranges whose default type is not listed.

    ``fixed`` tells if the fixed MTRRs are listed, and were kept already.
    """
    width = kept.put_sizes(ranges, given)
    only_uc = all(r.kind is MemType.UC for r in ranges)
    default = MemType.WB if only_uc else MemType.UC
    flags = m.DEF_TYPE_E | (m.DEF_TYPE_FE if fixed else 0)
    kept.put(0, m.DEF_TYPE, flags | default, ranges[0].line if ranges else 1)
    listing = kept.listing(what)
    why = "all ranges are UC" if only_uc else "not all ranges are UC"
    notes = [f"{what} has no default type: {default} is assumed, because {why}"]
    if not fixed:
        notes.append(f"{what} has no fixed MTRRs: they are assumed to be disabled")
    if given is None:
        notes.append(f"{what} has no MAXPHYADDR: {width} bits are assumed")
    return listing._replace(maxphyaddr=width, notes=(*notes, *listing.notes))


def read_proc(lines: Sequence[str], name: str, maxphyaddr: int | None = None) -> Listing:
    """Read ``/proc/mtrr``. Raises ``UserError`` at a line that is not one of its lines."""
    kept = Collector(name)
    ranges = list[Range]()
    passed = list[str]()
    other = False  # another command's output
    at = 0
    while at < len(lines):
        text, taken = lines[at], 1
        if heads := text.count(": base=0x"):
            other = False
            rows = PROC.findall(text)
            if heads == 1 and not rows:
                with suppress(LookupError):
                    row, taken = joined(lines, at, PROC)
                    rows = [row.groups()]
            if len(rows) < heads:
                raise _unknown(kept, at, text, "/proc/mtrr")
            for reg, digits, told, told_unit, size, unit, kind in rows:
                base, length = int(digits, 16), int(size) * _UNITS[unit]
                if base // _UNITS[told_unit] != int(told):
                    problem = f"base=0x{digits} is not {told}{told_unit}B"
                    raise kept.error(at + 1, problem, "give it as it was printed")
                ranges.append(Range(int(reg), base, length, TYPES[kind], at + 1))
        elif (command := command_of(text)) is not None:
            other = bool(command) and "mtrr" not in command
        elif text.strip() and not other:
            raise _unknown(kept, at, text, "/proc/mtrr")
        elif text.strip():
            passed.append(str(at + 1))
        at += taken
    if passed:
        kept.notes.append(f"another command's output is left out: lines {some(passed)}")
    return put_range_list(kept, "/proc/mtrr", ranges, maxphyaddr)


def _unknown(kept: Collector, at: int, text: str, what: str) -> Exception:
    problem = f"not a line of {what}: {text.strip()[:60]!r}"
    return kept.error(at + 1, problem, "give it as it was printed, or delete it")


def _cleanup_list(kept: Collector, lines: Sequence[str]) -> tuple[str, list[Range]]:
    """Return the last list of ``mtrr_cleanup``, and which one it is: ``New``, ``original``."""
    which, ranges = "", list[Range]()
    for at, text in enumerate(lines):
        if not any(word in text for word in _LISTS) or "Setting variable MTRR" in text:
            continue  # what mtrr_cleanup tries on the way is no list
        if (head := _CLEANUP_BEGIN.search(text)) is not None:
            which, ranges = head["which"], []
        elif _CLEANUP_ROW.search(text) is not None:
            try:
                found, _ = joined(lines, at, CLEANUP)
            except LookupError:
                raise _unknown(kept, at, text, "the kernel's list of variable MTRRs") from None
            base = int(found["base"]) * _UNITS[found["base_unit"]]
            size = int(found["size"]) * _UNITS[found["unit"]]
            ranges.append(Range(int(found["reg"]), base, size, _SHORT[found["type"]], at + 1))
    return which, ranges


def read_cleanup(lines: Sequence[str], name: str, maxphyaddr: int | None = None) -> Listing:
    """Read a boot log's ``reg 0, base: 0GB, range: 2GB, type WB``; the last list counts."""
    kept = Collector(name)
    which, ranges = _cleanup_list(kept, lines)
    if not ranges:
        problem = "what the kernel or the firmware tried to set, with no list of what it set"
        raise kept.error(1, problem, "give the lines that begin with 'reg 0, base:'")
    if which != "New":
        _note_replaced(kept, "\n".join(lines))
    return put_range_list(kept, "the boot log's list of variable MTRRs", ranges, maxphyaddr)


def _note_replaced(kept: Collector, text: str) -> None:
    if _OPTIMAL.search(text) is not None:
        kept.notes.append(
            "the kernel replaced the variable ranges afterwards (mtrr_cleanup: 'Found optimal "
            "setting'): the registers shown are no longer what the processor holds"
        )


class _Block:
    """The block that begins with ``MTRR default type``, line by line."""

    def __init__(self, kept: Collector, lines: Sequence[str], start: int) -> None:
        self._kept = kept
        self._lines = lines
        self._at = start
        self._section = ""
        self._header = start
        self._seen = 0
        """Registers read in this section."""
        self._foreign: list[int] = []
        """Lines since the section's last register."""
        self._within: list[int] = []
        """Lines that came between two registers."""
        self._types = bytearray(0x100)
        self._covered = bytearray(0x100)
        self.digits = 0
        self.sections: dict[str, bool] = {}
        self.listed: set[int] = set()

    def read(self) -> None:
        """Read it. Raises ``UserError`` where a register's line cannot be understood."""
        found = self._joined(_DEFAULT, "a default type")
        def_type = int(TYPES[found["type"]])
        first = self._header + 1
        while self._at < len(self._lines):
            text = self._lines[self._at]
            if self._section != "variable" or any(word in text for word in _WORDS):
                self._line(cleaned(text))
            else:
                self._pass(text)
        self._end_section()
        if "variable" not in self.sections:
            raise self._kept.error(
                first,
                "the block is cut: no line 'MTRR variable ranges enabled:' or '... disabled:', "
                "which says if the MTRRs are on",
                "give all its lines, up to the last variable range",
            )
        def_type |= m.DEF_TYPE_E if self.sections["variable"] else 0
        def_type |= m.DEF_TYPE_FE if self.sections.get("fixed") else 0
        self._kept.put(0, m.DEF_TYPE, def_type, first)
        self._finish(first)

    def _finish(self, line: int) -> None:
        notes = self._kept.notes
        if "fixed" in self.sections:
            self._kept.put_fixed(self._types, line)
            if (gap := self._covered.find(0)) >= 0:
                notes.append(f"the log is cut: the fixed range at {gap << 12:#x} is taken as UC")
        else:
            notes.append("the log lists no fixed MTRRs: they are taken as off")
        every = range(max(m.VCNT, *(reg + 1 for reg in self.listed)) if self.listed else 0)
        if missing := [str(reg) for reg in every if reg not in self.listed]:
            notes.append(
                f"the kernel prints every variable range: {some(missing)} of {len(every)} are not "
                "in the log, which may be cut; they are taken as disabled"
            )
        if self._within:
            shown = some(f"{at + 1}" for at in self._within)
            notes.append(f"lines between the registers that are not about them: {shown}")

    def _joined(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        """Take the line at which the reader stands, and those into which it was wrapped."""
        try:
            found, taken = joined(self._lines, self._at, pattern)
        except LookupError:
            problem = f"not {what}: {self._lines[self._at].strip()[:60]!r}"
            mend = "give the line as the kernel printed it"
            raise self._kept.error(self._at + 1, problem, mend) from None
        self._at += taken
        return found

    def _line(self, text: str) -> None:
        if _SECTION_HEAD.search(text) is not None:
            self._end_section()
            self._header, self._seen, self._foreign = self._at, 0, []
            found = self._joined(_SECTION, "'ranges enabled' or 'ranges disabled'")
            self._section = found["what"]
            self.sections[self._section] = found["state"] == "enabled"
        elif self._section != "variable" and _LIKE[""].search(text) is not None:
            problem = "the block is cut: a range without 'MTRR variable ranges' before it"
            raise self._kept.error(self._at + 1, problem, "give all its lines")
        elif self._section and _LIKE[self._section].search(text) is not None:
            line = self._at + 1
            if self._section == "fixed":
                self._fixed(self._joined(_FIXED, "a fixed range"))
            else:
                self._variable(self._joined(_VARIABLE, "a variable range"), line)
            self._within += self._foreign
            self._foreign = []
            self._seen += 1
        else:
            self._pass(text)

    def _pass(self, text: str) -> None:
        if text and not text.isspace():
            self._foreign.append(self._at)
        self._at += 1

    def _end_section(self) -> None:
        if self._section and not self._seen:
            at = self._foreign[0] if self._foreign else self._header
            text = self._lines[at].strip()[:60]
            problem = f"no {self._section} range under line {self._header + 1}: {text!r}"
            raise self._kept.error(at + 1, problem, "give the block's lines as they were printed")

    def _fixed(self, found: re.Match[str]) -> None:
        first, end = int(found["first"], 16) >> 12, (int(found["last"], 16) >> 12) + 1
        if first < end:
            self._types[first:end] = bytes([TYPES[found["type"]]]) * (end - first)
            self._covered[first:end] = b"\1" * (end - first)

    def _variable(self, found: re.Match[str], line: int) -> None:
        reg = int(found["reg"])
        self.listed.add(reg)
        if found["off"]:
            self._kept.put_range(reg, 0, 0, line)
            return
        self.digits = max(self.digits, len(found["mask"]))
        mask = int(found["mask"], 16) | m.PHYSMASK_V
        self._kept.put_range(reg, int(found["base"], 16) | TYPES[found["type"]], mask, line)

    def width(self, shown: int) -> int:
        """Return MAXPHYADDR, given the width of the widest mask, 0 if it is not known."""
        digits = self.digits
        if 4 * digits - 15 <= shown <= 4 * digits - 12:
            # v6.5 and newer count bytes as pages there, which makes three digits too many.
            digits -= 3
        if digits and shown < 4 * digits - 3:
            # The kernel prints masks with as many digits as physical addresses need.
            return min(52, max(32, 4 * digits))
        return shown


def read_log(lines: Sequence[str], name: str) -> Listing:
    """Read a boot log of Linux or Xen with ``MTRR default type``; the last such block counts."""
    *earlier, start = (at for at, text in enumerate(lines) if "MTRR default type:" in text)
    kept = Collector(name)
    if earlier:
        shown = some(str(at + 1) for at in earlier)
        kept.notes.append(f"the block of line {start + 1} counts; there are earlier ones: {shown}")
    block = _Block(kept, lines, start)
    block.read()
    what = "Xen's boot log" if "(XEN)" in lines[start] else "boot log"
    width = block.width(kept.listing(what).maxphyaddr or 0)
    rest = lines[start:]
    # Some kernels print their PAT first, both early in the boot.
    _put_pat(kept, lines, max(start - 1000, earlier[-1] + 1 if earlier else 0), start)
    _put_later(kept, lines, start)
    _put_replaced(kept, lines, start, block.listed, width)
    found = linux_map.read(rest, name, start)
    tom2 = linux_map.tom2(rest)
    return kept.listing(what)._replace(maxphyaddr=width or None, kernel_map=found, tom2=tom2)


def _put_later(kept: Collector, lines: Sequence[str], start: int) -> None:
    """Take what the kernel says after the block: PAT, TOM2, corrections."""
    rest = "\n".join(lines[start:])
    words = [word for word in _LATER if word in rest]
    for number, text in enumerate(lines[start:] if words else (), start=start + 1):
        if not any(word in text for word in words):
            continue
        if (said := _INCONSISTENT.search(text)) is not None:
            kept.notes.append(
                f"line {number}: the processors had different {said['what']} settings before the "
                "kernel corrected them; the block is the boot processor's"
            )
        elif "PAT" in text:
            _put_pat(kept, lines, number - 1, number)
        elif _TOM2_LIKE.search(cleaned(text)) and not linux_map.tom2((text,)):
            raise _unknown(kept, number - 1, text, "the kernel's TOM2")


def _put_pat(kept: Collector, lines: Sequence[str], start: int, end: int) -> None:
    """Take the last PAT of some lines."""
    for at in range(end - 1, start - 1, -1):
        text = lines[at]
        if "PAT" not in text:
            continue
        if (pat := _PAT.search(cleaned(text))) is not None:
            types = bytes(_PAT_NAMES[word] for word in pat["types"].split())
            kept.put(0, m.PAT, int.from_bytes(types, "little"), at + 1, again=True)
            return
        if (pat := _OLD_PAT.search(text)) is not None:
            kept.put(0, m.PAT, int(pat["pat"], 16), at + 1, again=True)
            return
        if _PAT_HEAD.search(text) is not None:
            raise _unknown(kept, at, text, "the kernel's PAT")


def _put_replaced(
    kept: Collector, lines: Sequence[str], start: int, listed: Iterable[int], width: int
) -> None:
    """Take the ranges by which the kernel replaced the listed ones (``mtrr_cleanup``)."""
    rest = "\n".join(lines[start:])
    which, ranges = "", list[Range]()
    if any(word in rest for word in _LISTS):
        which, ranges = _cleanup_list(kept, [*[""] * start, *lines[start:]])
    if which == "New" and ranges:
        line = ranges[0].line
        for reg in listed:
            kept.put_range(reg, 0, 0, line, again=True)
        kept.put_sizes(ranges, width or None, again=True)
        if [r.reg for r in ranges] != list(range(len(ranges))):
            kept.notes.append(f"line {line}: the new list has gaps: it may be cut")
        kept.notes.append(
            f"line {line}: the kernel replaced the variable ranges (mtrr_cleanup); its new list "
            "counts"
        )
    else:
        _note_replaced(kept, rest)


def read_map(lines: Iterable[str], name: str) -> Listing:
    """Read a boot log that has a map of v6.5 or newer, and no register."""
    found = linux_map.read(lines, name)
    assert found is not None, "the caller saw its first line"
    return Listing("the boot log's MTRR map", (), None, linux_map.alone(found, name), found)
