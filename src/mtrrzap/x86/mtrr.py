"""The MTRRs and IA32_PAT of one logical processor as MSRs, with the rules that refuse a write.

The rules are the manual's #GP conditions: reserved bits and reserved types (SDM vol. 3, "MTRRs").
KVM enforces the same rules; ``tests/x86/test_mtrr_on_kvm.py`` compares the two.
"""

from typing import NamedTuple, TypeVar

from mtrrzap.errors import UserError
from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MTRR_TYPES, MemType

_T = TypeVar("_T")

PAT_RESET = 0x0007_0406_0007_0406
"""IA32_PAT after power-on and RESET: WB WT UC- UC, twice."""

_TYPE_BYTES = frozenset(int(kind) for kind in MTRR_TYPES)
_PAT_BYTES = frozenset(int(kind) for kind in MemType)


class MsrRefusedError(UserError):
    """A WRMSR or RDMSR that ends in #GP(0). Nothing was changed."""

    def __init__(self, msr: int, value: int | None, rule: str) -> None:
        """``value`` is None for a read; ``rule`` says what was broken."""
        what = "read" if value is None else f"write of {value:#x}"
        super().__init__(f"{what} refused: {rule}", place=f"MSR {msr:#x} ({m.name(msr)})")
        self.msr = msr
        self.value = value
        self.rule = rule


class Mtrrs(NamedTuple):
    """All MTRRs and IA32_PAT of one logical processor. Immutable; ``write`` returns a new one.

    A mask is None until its first write after RESET. The manual leaves all fields but V undefined
    until then; here the MSR reads as 0.
    """

    maxphyaddr: int = 36
    def_type: int = 0
    fixed: tuple[int, ...] = (0,) * len(m.FIXED)
    """The 64-bit values of the eleven fixed MSRs, in the order of ``msr.FIXED``."""
    bases: tuple[int, ...] = (0,) * m.VCNT
    masks: tuple[int | None, ...] = (None,) * m.VCNT
    pat: int = PAT_RESET
    tom2: int = 0
    """AMD's TOP_MEM2 in bytes, if SYSCFG makes WB the default type from 4 GiB up to it; else 0."""

    @property
    def vcnt(self) -> int:
        """The number of variable ranges: 8 for a KVM guest, more for some hosts."""
        return len(self.bases)

    @property
    def enabled(self) -> bool:
        """DEF_TYPE.E: with it clear all of memory is UC."""
        return bool(self.def_type & m.DEF_TYPE_E)

    @property
    def fixed_enabled(self) -> bool:
        """DEF_TYPE.FE: the fixed MTRRs decide below 1 MiB (only if E is set too)."""
        return bool(self.def_type & m.DEF_TYPE_FE)

    @property
    def default(self) -> MemType:
        """The default type, for memory that no range covers."""
        return MemType(self.def_type & 0xFF)

    def valid(self, index: int) -> bool:
        """Tell if variable range ``index`` is in use (PHYSMASK.V)."""
        return bool((self.masks[index] or 0) & m.PHYSMASK_V)

    def variable_type(self, index: int) -> MemType:
        """Return the type of variable range ``index``."""
        return MemType(self.bases[index] & 0xFF)

    def fixed_types(self) -> tuple[MemType, ...]:
        """Return the 88 types of the fixed sub-ranges, in ascending order of address."""
        return tuple(MemType(byte) for value in self.fixed for byte in value.to_bytes(8, "little"))

    def read(self, msr: int) -> int:
        """Return what RDMSR gives. Raises ``MsrRefusedError`` for any other MSR."""
        if msr == m.DEF_TYPE:
            return self.def_type
        if msr in m.FIXED_INDEX:
            return self.fixed[m.FIXED_INDEX[msr]]
        if (index := m.variable_index(msr)) is not None and index < self.vcnt:
            return (self.masks[index] or 0) if msr & 1 else self.bases[index]
        if msr == m.PAT:
            return self.pat
        if msr == m.MTRRCAP:
            return m.MTRRCAP_VALUE
        raise MsrRefusedError(msr, None, "not an MTRR")

    def write(self, msr: int, value: int) -> "Mtrrs":
        """Return the state after WRMSR. Raises ``MsrRefusedError`` if it would end in #GP."""
        if (rule := broken_rule(msr, value, self.maxphyaddr, self.vcnt)) is not None:
            raise MsrRefusedError(msr, value, rule)
        width, def_type, fixed, bases, masks, pat, tom2 = self
        if msr == m.DEF_TYPE:
            def_type = value
        elif msr in m.FIXED_INDEX:
            fixed = _with(fixed, m.FIXED_INDEX[msr], value)
        elif msr == m.PAT:
            pat = value
        elif msr & 1:
            masks = _with(masks, m.variable_index(msr) or 0, value)
        else:
            bases = _with(bases, m.variable_index(msr) or 0, value)
        return Mtrrs(width, def_type, fixed, bases, masks, pat, tom2)


def _with(values: tuple[_T, ...], index: int, value: _T) -> tuple[_T, ...]:
    return (*values[:index], value, *values[index + 1 :])


def broken_rule(msr: int, value: int, maxphyaddr: int, vcnt: int = m.VCNT) -> str | None:
    """Return the rule that a WRMSR of ``value`` breaks, or None if it is accepted.

    ``maxphyaddr`` is the processor's physical-address width in bits (CPUID 0x80000008.EAX[7:0]),
    ``vcnt`` the number of its variable ranges.
    """
    if not 0 <= value < 1 << 64:
        return "the value has more than 64 bits"
    if msr == m.DEF_TYPE:
        return _broken_by_def_type(value)
    if msr in m.FIXED_INDEX:
        return _broken_by_bytes(value, _TYPE_BYTES)
    if (index := m.variable_index(msr)) is not None and index < vcnt:
        return _broken_by_variable(msr, value, maxphyaddr)
    if msr == m.PAT:
        return _broken_by_bytes(value, _PAT_BYTES)
    if msr == m.MTRRCAP:
        return "the MSR is read-only"
    return "not an MTRR"


def _broken_by_def_type(value: int) -> str | None:
    if value & ~(m.DEF_TYPE_E | m.DEF_TYPE_FE | 0xFF):
        return "bits 63:12 and 9:8 are reserved"
    return _broken_by_type(value & 0xFF)


def _broken_by_variable(msr: int, value: int, maxphyaddr: int) -> str | None:
    if value >> maxphyaddr:
        return f"bits 63:{maxphyaddr} are reserved (MAXPHYADDR is {maxphyaddr})"
    if msr & 1:
        return "bits 10:0 are reserved" if value & 0x7FF else None
    if value & 0xF00:
        return "bits 11:8 are reserved"
    return _broken_by_type(value & 0xFF)


def _broken_by_type(kind: int) -> str | None:
    return None if kind in _TYPE_BYTES else f"{kind} is not a memory type of an MTRR"


def _broken_by_bytes(value: int, allowed: frozenset[int]) -> str | None:
    types = value.to_bytes(8, "little")
    if allowed.issuperset(types):
        return None
    index = next(index for index, byte in enumerate(types) if byte not in allowed)
    return f"byte {index} is {types[index]:#x}, which is not a memory type there"
