"""The numbers and names of the MTRR MSRs and IA32_PAT (SDM vol. 3, "MTRRs"; vol. 4, MSR list)."""

from typing import NamedTuple

MTRRCAP = 0xFE
PHYSBASE0 = 0x200
PAT = 0x277
DEF_TYPE = 0x2FF

VCNT = 8
"""Variable ranges of the modelled vCPU: what KVM reports in IA32_MTRRCAP."""
MAX_VCNT = 256
"""VCNT has eight bits. The first 40 ranges have MSRs: at 0x250 the fixed ones begin."""
MTRRCAP_VALUE = 1 << 10 | 1 << 8 | VCNT
"""WC, FIX, VCNT = 8 and no SMRR: the constant that KVM reports."""

DEF_TYPE_FE = 1 << 10
DEF_TYPE_E = 1 << 11
PHYSMASK_V = 1 << 11

FIXED_END = 1 << 20
"""The fixed MTRRs cover the first MiB."""


class FixedMsr(NamedTuple):
    """One fixed-range MSR: byte i holds the type of ``[start + i * step, start + (i + 1) * step)``.

    ``start`` and ``step`` are in bytes; every MSR has eight such sub-ranges.
    """

    msr: int
    start: int
    step: int
    name: str

    @property
    def end(self) -> int:
        """The first byte behind the last sub-range."""
        return self.start + 8 * self.step


FIXED = (
    FixedMsr(0x250, 0x00000, 0x10000, "FIX64K_00000"),
    FixedMsr(0x258, 0x80000, 0x4000, "FIX16K_80000"),
    FixedMsr(0x259, 0xA0000, 0x4000, "FIX16K_A0000"),
    *(
        FixedMsr(0x268 + i, 0xC0000 + i * 0x8000, 0x1000, f"FIX4K_{0xC0000 + i * 0x8000:X}")
        for i in range(8)
    ),
)
FIXED_INDEX = {fixed.msr: index for index, fixed in enumerate(FIXED)}
"""MSR number -> position in ``FIXED``."""

VARIABLE = range(PHYSBASE0, PHYSBASE0 + 2 * VCNT)
"""PHYSBASE0, PHYSMASK0, PHYSBASE1, ...: even numbers are bases, odd ones masks."""

MTRR_MSRS = frozenset((*VARIABLE, *FIXED_INDEX, DEF_TYPE))
"""Every writable MTRR of the modelled vCPU."""

SMRR_PHYSBASE, SMRR_PHYSMASK = 0x1F2, 0x1F3
SYSCFG, TOP_MEM, TOP_MEM2 = 0xC0010010, 0xC001001A, 0xC001001D
IORR_BASE0 = 0xC0010016
"""IORR_BASE0, IORR_MASK0, IORR_BASE1, IORR_MASK1 (AMD's manual, volume 2, "IORRs")."""
OTHERS = {
    SMRR_PHYSBASE: "SMRR_PHYSBASE",
    SMRR_PHYSMASK: "SMRR_PHYSMASK",
    SYSCFG: "SYSCFG",
    TOP_MEM: "TOP_MEM",
    TOP_MEM2: "TOP_MEM2",
    IORR_BASE0: "IORR_BASE0",
    IORR_BASE0 + 1: "IORR_MASK0",
    IORR_BASE0 + 2: "IORR_BASE1",
    IORR_BASE0 + 3: "IORR_MASK1",
}
"""Registers that a host has beside its MTRRs, by number."""
SYSCFG_TOM2_WB = 1 << 21 | 1 << 22
"""MtrrTom2En and Tom2ForceMemTypeWB: from 4 GiB to TOP_MEM2 the default type is WB."""
SYSCFG_FIX_DRAM_MOD = 1 << 19
"""MtrrFixDramModEn: bits 4:3 of a fixed MTRR's bytes (RdMem, WrMem) can be seen."""

_HIGH = 0x1_0000_0000


def variable(index: int) -> int:
    """Return the MSR number of a variable range's base; the mask's is one more.

    From range 40 on no MSR exists, and the number is one that no MSR can have.
    """
    return PHYSBASE0 + 2 * index if index < 40 else _HIGH + 2 * index


def variable_index(msr: int) -> int | None:
    """Return the range to which a variable MTRR (as ``variable`` has it) belongs, else None."""
    if PHYSBASE0 <= msr < FIXED[0].msr:
        return (msr - PHYSBASE0) // 2
    return (msr - _HIGH) // 2 if msr >= _HIGH else None


def name(msr: int) -> str:
    """Return the manual's name of an MSR without its IA32_ and MTRR_ prefixes, else its number."""
    if msr in FIXED_INDEX:
        return FIXED[FIXED_INDEX[msr]].name
    if (index := variable_index(msr)) is not None:
        return f"PHYS{'MASK' if msr & 1 else 'BASE'}{index}"
    known = {MTRRCAP: "MTRRCAP", PAT: "PAT", DEF_TYPE: "DEF_TYPE", **OTHERS}
    return known.get(msr, f"MSR {msr:#x}")
