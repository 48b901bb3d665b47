"""What every kind of listing comes down to: values of MSRs, per logical processor."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.guest.listing.linux_map import KernelMap
from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType

MAX_CPUS = 4096
NAMED = 4
"""Registers, lines or ranges that a note names."""

_VARIABLE = [m.variable(index) + half for index in range(40) for half in (0, 1)]
_KEPT = frozenset((*m.FIXED_INDEX, m.DEF_TYPE, m.PAT, m.MTRRCAP, *m.OTHERS))
_MASKS = frozenset(_VARIABLE[1::2])
_FEW = _KEPT.union(_VARIABLE)
"""The MSRs that most listings have."""
_NAMES: dict[str, int] = {
    m.name(msr).replace("_", "").upper(): msr for msr in (*_VARIABLE, *sorted(_KEPT))
}
_NAMES |= {"CAP": m.MTRRCAP, "CRPAT": m.PAT, "TOM": m.TOP_MEM, "TOM2": m.TOP_MEM2}
_NAMES |= {"TOPMEM1": m.TOP_MEM, "SYSTEMCFG": m.SYSCFG}


class ListedRegisters(NamedTuple):
    """The MSRs listed for one processor; one that is not listed is absent.

    A variable range's registers have the numbers that ``msr.variable`` gives them.
    """

    cpu: int
    values: dict[int, int]
    lines: dict[int, int]
    """Number of the line that gave the value, by MSR."""


class Listing(NamedTuple):
    """A whole listing."""

    what: str
    """Its kind: ``MSR dump``, ``/proc/mtrr``, ..."""
    cpus: tuple[ListedRegisters, ...]
    maxphyaddr: int | None
    """In bits; None if the listing does not show it."""
    notes: tuple[str, ...] = ()
    """What had to be assumed."""
    kernel_map: KernelMap | None = None
    """What Linux made of the registers, where it says so; ``cpus`` may then be empty."""
    tom2: int = 0
    """AMD's TOM2 in bytes, where a boot log says that memory from 4 GiB up to it is WB; else 0."""
    unlisted: str = ""
    """What this form of listing never has, so that its absence needs no other note."""


@lru_cache(maxsize=4096)
def msr_number(word: str) -> int | None:
    """Return the MSR that a word names: ``0x2ff``, ``2ffh``, ``2ff``, ``IA32_MTRR_DEF_TYPE``."""
    name = word.upper().replace("_", "")
    for part in ("IA32", "MSR", "AMD64", "K8", "IA32", "MTRR", "MSR"):
        name = name.removeprefix(part)
    if name in _NAMES:
        return _NAMES[name]
    return hex_number(word, 32)


def hex_number(word: str, bits: int = 64) -> int | None:
    """Return a number in hex (``0x2ff``, ``2ff``, ``2ffh``); None if it is none or too large."""
    digits = word[2:] if word[:2] in ("0x", "0X") else word
    if digits[-1:] in ("l", "L", "h", "H"):
        digits = digits.lower().removesuffix("ull").removesuffix("ul").removesuffix("h")
    if len(digits) > 16 or not (digits.isascii() and digits.isalnum()):
        return None
    try:
        value = int(digits, 16)
    except ValueError:
        return None
    return value if value < 1 << bits else None


class Range(NamedTuple):
    """One variable range as base and size, before it is known how wide addresses are."""

    reg: int
    base: int
    size: int
    kind: MemType
    line: int


class Collector:
    """Gathers values line by line; a later value of a register replaces the earlier one."""

    def __init__(self, name: str) -> None:
        """``name`` is used in errors only."""
        self._name = name
        self._cpus: dict[int, ListedRegisters] = {}
        self._passed: dict[int, int] = {}
        self._replaced: list[str] = []
        self.notes: list[str] = []

    def put(self, cpu: int, msr: int, value: int, line: int, *, again: bool = False) -> None:
        """Keep one value; a note names registers that no memory type depends on.

        ``again``: the listing itself says that the value replaces one, so no note does.
        """
        if msr not in _FEW:
            index = m.variable_index(msr)
            if index is None:
                self._passed.setdefault(msr, line)
                return
            if index >= m.MAX_VCNT:
                problem = f"range {index}: a processor has at most {m.MAX_VCNT}"
                raise self.error(line, problem, "fix the line")
        if cpu >= MAX_CPUS:
            raise self.error(line, f"CPU {cpu} is beyond {MAX_CPUS - 1}", "fix the line")
        found = self._cpus.get(cpu)
        if found is None:
            found = self._cpus[cpu] = ListedRegisters(cpu, {}, {})
        if found.values.get(msr, value) != value and not again:
            first = found.lines[msr]
            self._replaced.append(f"{m.name(msr)} of CPU {cpu} (lines {first} and {line})")
        found.values[msr] = value
        found.lines[msr] = line

    def put_range(
        self, index: int, base: int, mask: int, line: int, *, again: bool = False
    ) -> None:
        """Keep both registers of a variable range of processor 0."""
        self.put(0, m.variable(index), base, line, again=again)
        self.put(0, m.variable(index) + 1, mask, line, again=again)

    def put_sizes(self, ranges: Sequence[Range], given: int | None, *, again: bool = False) -> int:
        """Keep ranges that have sizes in place of masks. Return the width of addresses in bits.

        Masks get as many bits as the highest address needs, if ``given`` is None.
        """
        end = max((r.base + r.size for r in ranges), default=1)
        width = given or min(52, max(36, (end - 1).bit_length()))
        every = (1 << width) - 1
        for reg, base, size, kind, line in ranges:
            if not size or size & (size - 1):
                problem = f"a size of {size:#x} is not a power of two, so no single mask has it"
                raise self.error(line, problem, "give an MSR dump instead")
            mask = every & -size & ~0xFFF | m.PHYSMASK_V
            msr = m.variable(reg)
            self.put(0, msr, base | kind, line, again=again)
            self.put(0, msr + 1, mask, line, again=again)
        return width

    def put_fixed(self, types: Sequence[int], line: int) -> None:
        """Keep the fixed MTRRs of processor 0, given the type of each 4 KiB of the first MiB."""
        for fixed in m.FIXED:
            found = bytes(types[(fixed.start + i * fixed.step) >> 12] for i in range(8))
            self.put(0, fixed.msr, int.from_bytes(found, "little"), line)

    def error(self, line: int, problem: str, mend: str) -> UserError:
        """Return an error that names a line."""
        return UserError(problem, place=f"{self._name}:{line}", mend=mend)

    def listing(self, what: str) -> Listing:
        """Return everything. Raises ``UserError`` if there is no MTRR."""
        cpus = tuple(self._cpus[cpu] for cpu in sorted(self._cpus))
        if not any(_is_mtrr(msr) for found in cpus for msr in found.values):
            others = ": only " + self._others() if self._passed else ""
            mend = "give a trace, an MSR dump, /proc/mtrr or a boot log with mtrr=debug"
            mend = "MSR numbers are read as hex" if self._passed else mend
            raise self.error(1, f"no MTRR found (read as {what}){others}", mend)
        masks = [
            value.bit_length()
            for found in cpus
            for msr, value in found.values.items()
            if msr & 1 and (msr in _MASKS or msr >= 1 << 32)
        ]
        width = max(masks, default=0)
        notes = (*self.notes, *self._dropped())
        return Listing(what, cpus, width if 32 <= width <= 52 else None, notes)

    def _others(self) -> str:
        return "MSR " + some(f"{msr:#x} (line {line})" for msr, line in self._passed.items())

    def _dropped(self) -> Iterator[str]:
        if self._passed:
            yield f"not used, because no memory type depends on it: {self._others()}"
        if self._replaced:
            yield f"listed again with another value, the last one counts: {some(self._replaced)}"


def is_kept(msr: int | None) -> bool:
    """Tell if memory types, or what is said of them, depend on an MSR."""
    return msr is not None and (msr in _KEPT or m.variable_index(msr) is not None)


def _is_mtrr(msr: int) -> bool:
    return msr == m.DEF_TYPE or msr in m.FIXED_INDEX or m.variable_index(msr) is not None


def some(words: Iterable[str]) -> str:
    """Join the first ``NAMED`` words, and say how many more there are."""
    found = list(words)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more
