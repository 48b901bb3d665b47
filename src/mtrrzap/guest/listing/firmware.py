"""The tables of MTRRs that firmware prints: coreboot, EDK2, Slim Bootloader, U-Boot.

Their forms are those of the functions that print them: coreboot's src/cpu/x86/mtrr/mtrr.c, EDK2's
``MtrrDebugPrintAllMtrrs``, Slim Bootloader's ``mtrr`` command, U-Boot's cmd/x86/mtrr.c.
"""

import re
from collections.abc import Sequence

from mtrrzap.guest.listing.linux import put_range_list
from mtrrzap.guest.listing.pasted import cleaned, command_of
from mtrrzap.guest.listing.registers import Collector, Listing, Range
from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType

_KINDS = {
    "uncacheable": MemType.UC,
    "combine": MemType.WC,
    "through": MemType.WT,
    "protect": MemType.WP,
    "protected": MemType.WP,
    "back": MemType.WB,
    "combining": MemType.WC,
}
"""By the last word of a type's name, in lower case."""


def kind_of(words: str) -> MemType | None:
    """Return the type that a name in words gives: ``Write-Back``, ``Write Combining``."""
    return _KINDS.get(re.split(r"[\s-]", words.strip().lower())[-1])


def _bad(kept: Collector, number: int, text: str, what: str) -> Exception:
    problem = f"not a line of {what}: {text.strip()[:60]!r}"
    return kept.error(number, problem, "give the line as it was printed")


def _cut(kept: Collector, line: int, what: str) -> Exception:
    return kept.error(line, f"the table is cut: {what}", "give all its lines")


# ---- coreboot ------------------------------------------------------------------------------------

COREBOOT = re.compile(
    r"MTRR: (?:\w+ )?Physical address space:|MTRR: Fixed MSR 0x|MTRR: \d+ base 0x"
)
_SPACE = re.compile(r"MTRR: (?P<temporary>TEMPORARY )?Physical address space:")
_C_FIXED = re.compile(r"MTRR: Fixed MSR 0x(?P<msr>[0-9a-f]{3}) 0x(?P<value>[0-9a-f]{16})$")
_C_BITS = re.compile(r"physical address size: (?P<bits>\d\d) bits")
_C_TYPE = re.compile(r"MTRR: (?P<type>WB|UC) selected as default type")
_C_RANGE = re.compile(
    r"MTRR: (?P<reg>\d{1,3}) base 0x(?P<base>[0-9a-f]{16}) mask 0x(?P<mask>[0-9a-f]{16}) "
    r"type (?P<type>\d)$"
)
_C_CHECK = re.compile(r"(?P<what>Fixed|Variable) MTRRs\s*: (?P<state>Enabled|Disabled)$")
"""``x86_mtrr_check``, at the end."""


def read_coreboot(lines: Sequence[str], name: str) -> Listing:
    """Read coreboot's console log: the last solution counts, but no ``TEMPORARY`` one."""
    log = _Coreboot(Collector(name))
    for number, line in enumerate(lines, start=1):
        log.line(number, cleaned(line))
    return log.listing()


class _Coreboot:
    def __init__(self, kept: Collector) -> None:
        self._kept = kept
        self._temporary = False
        self._bits = 0
        self._default: tuple[MemType, int] | None = None
        self._fixed = 0
        self._off = 0
        """Bits of IA32_MTRR_DEF_TYPE that the check at the end found clear."""
        self._ranges: dict[int, tuple[int, int, int]] = {}

    def line(self, number: int, text: str) -> None:
        if (space := _SPACE.search(text)) is not None:
            self._temporary = bool(space["temporary"])
            if self._temporary:
                self._kept.notes.append(f"line {number}: coreboot's temporary MTRRs are left out")
        elif (size := _C_BITS.search(text)) is not None:
            self._bits = int(size["bits"])
        elif (found := _C_FIXED.search(text)) is not None:
            self._fixed = number
            self._kept.put(0, int(found["msr"], 16), int(found["value"], 16), number, again=True)
        elif (found := _C_CHECK.search(text)) is not None:
            bit = m.DEF_TYPE_FE if found["what"] == "Fixed" else m.DEF_TYPE_E
            self._off = self._off & ~bit if found["state"] == "Enabled" else self._off | bit
        elif not self._temporary:
            self._solution(number, text)

    def _solution(self, number: int, text: str) -> None:
        if (found := _C_TYPE.search(text)) is not None:
            if self._ranges:
                self._kept.notes.append(f"line {number}: a later table replaces the one before it")
            self._default = (MemType[found["type"]], number)
            self._ranges = {}  # coreboot clears the ranges that a solution does not use
        elif (found := _C_RANGE.search(text)) is not None:
            mask = int(found["mask"], 16) | m.PHYSMASK_V
            base = int(found["base"], 16) | int(found["type"])
            self._ranges[int(found["reg"])] = (base, mask, number)
        elif re.search(r"MTRR: (?:Fixed MSR|\d+ base)", text):
            raise _bad(self._kept, number, text, "coreboot's MTRRs")

    def listing(self) -> Listing:
        kept = self._kept
        if self._default is None:
            at = next(iter(self._ranges.values()))[2] if self._ranges else self._fixed or 1
            raise _cut(kept, at, "no line 'MTRR: WB selected as default type.'")
        for reg, row in self._ranges.items():
            kept.put_range(reg, *row)
        flags = m.DEF_TYPE_E | (m.DEF_TYPE_FE if self._fixed else 0)
        kept.put(0, m.DEF_TYPE, flags & ~self._off | self._default[0], self._default[1])
        listing = kept.listing("coreboot's log")
        width = self._bits if 32 <= self._bits <= 52 else listing.maxphyaddr
        return listing._replace(maxphyaddr=width)


# ---- EDK2 ----------------------------------------------------------------------------------------

EDK2 = re.compile(r"MTRR Default Type: [0-9A-Fa-f]{16}")
_E_TYPE = re.compile(r"MTRR Default Type: (?P<value>[0-9A-Fa-f]{16})$")
_E_FIXED = re.compile(r"Fixed MTRR\[(?P<index>\d\d)\]\s*: (?P<value>[0-9A-Fa-f]{16})$")
_E_RANGE = re.compile(
    r"Variable MTRR\[(?P<index>\d{2,3})\]: Base=(?P<base>[0-9A-Fa-f]{16}) "
    r"Mask=(?P<mask>[0-9A-Fa-f]{16})$"
)
_E_NONE = re.compile(r"Variable MTRR\s*: None\.$")


def read_edk2(lines: Sequence[str], name: str) -> Listing:
    """Read EDK2's debug log; the last table counts."""
    kept = Collector(name)
    start = max(n for n, line in enumerate(lines) if EDK2.search(line))
    fixed, ended = set[int](), False
    for number, line in enumerate(lines[start:], start=start + 1):
        text = cleaned(line)
        if (found := _E_TYPE.search(text)) is not None:
            kept.put(0, m.DEF_TYPE, int(found["value"], 16), number)
        elif (found := _E_FIXED.search(text)) is not None and int(found["index"]) < len(m.FIXED):
            fixed.add(int(found["index"]))
            kept.put(0, m.FIXED[int(found["index"])].msr, int(found["value"], 16), number)
        elif (found := _E_RANGE.search(text)) is not None:
            ended = True
            base, mask = int(found["base"], 16), int(found["mask"], 16)
            kept.put_range(int(found["index"]), base, mask, number)
        elif _E_NONE.search(text):
            ended = True
        elif re.search(r"(?:Fixed|Variable) MTRR\b", text):
            raise _bad(kept, number, text, "EDK2's MTRRs")
    if len(fixed) < len(m.FIXED):
        raise _cut(kept, start + 1, f"{len(fixed)} of {len(m.FIXED)} fixed MTRRs")
    if not ended:
        raise _cut(kept, start + 1, "no variable MTRR, and no 'Variable MTRR    : None.'")
    return kept.listing("EDK2's log")


# ---- Slim Bootloader -----------------------------------------------------------------------------

SLIM = re.compile(r"^\s*MTRRs\.{4,}: (?:Enabled|Disabled)", re.MULTILINE)
_S_ON = re.compile(r"(?P<what>Fixed MTRRs|MTRRs)\.{4,}: (?P<state>Enabled|Disabled)$")
_S_TYPE = re.compile(r"Default\.{4,}: (?P<type>[A-Za-z -]+)$")
_S_RANGE = re.compile(r"\[0x(?P<first>[0-9a-f]{9,13})-0x(?P<last>[0-9a-f]{9,13})\] (?P<type>.+)$")
_S_MSR = re.compile(r"\(0x(?P<msr>[0-9a-f]{3})\): 0x(?P<value>[0-9a-f]{16})$")


def read_slim(lines: Sequence[str], name: str) -> Listing:
    """Read the ``mtrr`` command's output; with ``-v`` it has the registers themselves."""
    kept = Collector(name)
    ranges: list[Range] = []
    exact, flags, default = 0, 0, None
    start = next(n for n, line in enumerate(lines) if SLIM.match(line))
    for number, line in enumerate(lines[start:], start=start + 1):
        text = cleaned(line).strip()
        if command_of(text) is not None:
            break
        if (found := _S_ON.match(text)) is not None:
            bit = m.DEF_TYPE_FE if found["what"].startswith("Fixed") else m.DEF_TYPE_E
            flags |= bit if found["state"] == "Enabled" else 0
        elif (found := _S_TYPE.match(text)) is not None:
            default = kind_of(found["type"])
        elif (found := _S_MSR.search(text)) is not None:
            exact += 1
            kept.put(0, int(found["msr"], 16), int(found["value"], 16), number)
        elif text.startswith("[0x"):
            found = _S_RANGE.match(text)
            kind = kind_of(found["type"]) if found else None
            if found is None or kind is None:
                raise _bad(kept, number, text, "Slim Bootloader's MTRRs")
            base, size = int(found["first"], 16), int(found["last"], 16) + 1
            ranges.append(Range(len(ranges), base, size - base, kind, number))
        elif text and text != "Variable MTRRs":
            raise _bad(kept, number, text, "Slim Bootloader's MTRRs")
    if default is None:
        raise _cut(kept, 1, "no default type")
    if exact not in (0, 2 * len(ranges)):
        raise _cut(kept, 1, f"{exact} registers of {len(ranges)} ranges, in place of two of each")
    kept.put(0, m.DEF_TYPE, flags | default, 1)
    width = None if exact else kept.put_sizes(ranges, 36)
    listing = kept.listing("Slim Bootloader's mtrr command")
    notes = [] if exact else ["ranges are numbered in order; addresses have 36 bits there"]
    notes += ["the fixed MTRRs are not listed: they are taken as UC"] * bool(flags & m.DEF_TYPE_FE)
    return listing._replace(
        maxphyaddr=width or listing.maxphyaddr,
        notes=(*listing.notes, *notes),
        unlisted="fixed MTRRs",
    )


# ---- U-Boot --------------------------------------------------------------------------------------

UBOOT = re.compile(r"^\s*Reg Valid Write-type\s+Base", re.MULTILINE)
_U_ROW = re.compile(
    r"(?P<reg>\d{1,3})\s+(?P<valid>[YN])\s+(?P<type>\w+)\s+(?P<base>[0-9a-f]{16}) "
    r"(?P<mask>[0-9a-f]{16}) (?P<size>[0-9a-f]{16})$"
)
_U_PROMPT = re.compile(r"[^\s=>]*\s*=?>(?:\s|$)|mtrr\b")


def read_uboot(lines: Sequence[str], name: str) -> Listing:
    """Read ``mtrr list``, of one processor or of several."""
    kept = Collector(name)
    tables: dict[int, dict[int, tuple[int, int, int]]] = {}
    cpu = 0
    for number, line in enumerate(lines, start=1):
        text = cleaned(line).strip()
        if text.startswith("Failed to read CPU"):
            kept.notes.append(f"line {number}: U-Boot says: {text[:40]}")
        elif (named := re.match(r"CPU (\d{1,4}):$", text)) is not None:
            cpu = int(named[1])
        elif (found := _U_ROW.match(text)) is not None:
            kind = kind_of(found["type"])
            if kind is None and found["valid"] == "Y":
                raise _bad(kept, number, text, "U-Boot's MTRRs")
            mask = int(found["mask"], 16) | (m.PHYSMASK_V if found["valid"] == "Y" else 0)
            base = int(found["base"], 16) | (kind or 0)
            tables.setdefault(cpu, {})[int(found["reg"])] = (base, mask, number)
        elif text and not UBOOT.match(text) and not _U_PROMPT.match(text):
            raise _bad(kept, number, text, "U-Boot's MTRRs")
    if not tables:
        raise _cut(kept, 1, "no register under its heading")
    return _of_uboot(kept, tables)


def _of_uboot(kept: Collector, tables: dict[int, dict[int, tuple[int, int, int]]]) -> Listing:
    what = "U-Boot's mtrr list"
    kinds = {base & 0xFF for t in tables.values() for base, mask, _ in t.values() if mask & 0x800}
    default = MemType.WB if kinds <= {MemType.UC} else MemType.UC
    for cpu, table in tables.items():
        for reg, (base, mask, number) in table.items():
            kept.put(cpu, m.variable(reg), base, number)
            kept.put(cpu, m.variable(reg) + 1, mask, number)
        kept.put(cpu, m.DEF_TYPE, m.DEF_TYPE_E | default, next(iter(table.values()))[2])
    made = put_range_list(Collector("x"), what, (), None).notes
    listing = kept.listing(what)
    why = "all ranges are UC" if default is MemType.WB else "not all ranges are UC"
    notes = (f"{what} has no default type: {default} is assumed, because {why}", made[1])
    return listing._replace(notes=(*notes, *listing.notes))
