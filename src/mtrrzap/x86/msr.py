"""The numbers and names of the MTRR MSRs and IA32_PAT (SDM vol. 3, "MTRRs"; vol. 4, MSR list)."""

from typing import NamedTuple

MTRRCAP = 0xFE
PHYSBASE0 = 0x200
PAT = 0x277
DEF_TYPE = 0x2FF

VCNT = 8
"""Variable ranges of the modelled vCPU: what KVM reports in IA32_MTRRCAP."""
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
"""Every writable MTRR."""


def name(msr: int) -> str:
    """Return the manual's name of an MSR without its IA32_ and MTRR_ prefixes, else its number."""
    if msr in VARIABLE:
        return f"PHYS{'MASK' if msr & 1 else 'BASE'}{(msr - PHYSBASE0) // 2}"
    if msr in FIXED_INDEX:
        return FIXED[FIXED_INDEX[msr]].name
    return {MTRRCAP: "MTRRCAP", PAT: "PAT", DEF_TYPE: "DEF_TYPE"}.get(msr, f"MSR {msr:#x}")
