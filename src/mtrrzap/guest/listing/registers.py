"""What every kind of listing comes down to: values of MSRs, per logical processor."""

from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.guest.listing.linux_map import KernelMap
from mtrrzap.x86 import msr as m

MAX_CPUS = 4096

_NAMES: dict[str, int] = {
    m.name(msr).replace("_", "").upper(): msr for msr in (*m.MTRR_MSRS, m.PAT, m.MTRRCAP)
}
_NAMES["CAP"] = m.MTRRCAP


class ListedRegisters(NamedTuple):
    """The MSRs listed for one processor; one that is not listed is absent."""

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


def msr_number(word: str) -> int | None:
    """Return the MSR that a word names: ``0x2ff``, ``2ffh``, ``2ff``, ``IA32_MTRR_DEF_TYPE``."""
    name = word.upper().replace("_", "")
    for part in ("IA32", "MSR", "MTRR"):
        name = name.replace(part, "", 1)
    if name in _NAMES:
        return _NAMES[name]
    return hex_number(word.lower().removesuffix("h"), 32)


def hex_number(word: str, bits: int = 64) -> int | None:
    """Return a number in hex, with or without 0x; None if it is none or too large."""
    digits = word.lower().removeprefix("0x")
    if not digits or len(digits) > 16 or set(digits) - set("0123456789abcdef"):
        return None
    value = int(digits, 16)
    return value if value < 1 << bits else None


class Collector:
    """Gathers values line by line; a later value of a register replaces the earlier one."""

    def __init__(self, name: str) -> None:
        """``name`` is used in errors only."""
        self._name = name
        self._cpus: dict[int, ListedRegisters] = {}

    def put(self, cpu: int, msr: int, value: int, line: int) -> None:
        """Keep one value; registers that no memory type depends on are passed over."""
        if msr not in m.MTRR_MSRS and msr not in (m.PAT, m.MTRRCAP):
            return
        if cpu >= MAX_CPUS:
            raise self.error(line, f"CPU {cpu} is beyond {MAX_CPUS - 1}", "fix the line")
        found = self._cpus.setdefault(cpu, ListedRegisters(cpu, {}, {}))
        found.values[msr] = value
        found.lines[msr] = line

    def error(self, line: int, problem: str, mend: str) -> UserError:
        """Return an error that names a line."""
        return UserError(problem, place=f"{self._name}:{line}", mend=mend)

    def listing(self, what: str) -> Listing:
        """Return everything. Raises ``UserError`` if there is no MTRR."""
        cpus = tuple(self._cpus[cpu] for cpu in sorted(self._cpus))
        if not any(m.MTRR_MSRS & found.values.keys() for found in cpus):
            raise UserError(
                f"no MTRR found (read as {what})",
                place=f"{self._name}:1",
                mend="give a trace, an MSR dump, /proc/mtrr or a boot log with mtrr=debug",
            )
        masks = [
            value.bit_length()
            for found in cpus
            for msr, value in found.values.items()
            if msr in m.VARIABLE and msr & 1
        ]
        width = max(masks, default=0)
        return Listing(what, cpus, width if 32 <= width <= 52 else None)
