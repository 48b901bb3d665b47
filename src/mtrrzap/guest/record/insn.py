"""The two instructions at which the recorder stops, decoded from their bytes.

LMSW, CLTS and task switches cannot change CR0.CD or CR0.NW, so MOV to CR0 is the only instruction
to look for (Intel SDM vol. 2, "MOV - Move to/from Control Registers" and "LMSW").
"""

from enum import Enum
from typing import NamedTuple

MAX_LENGTH = 15
"""No x86 instruction is longer."""

_REX = range(0x40, 0x50)
_PREFIXES = frozenset({0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF2, 0xF3})


class Mnemonic(Enum):
    """Which of the two it is."""

    WRMSR = "wrmsr"
    MOV_CR0 = "mov-cr0"


class Insn(NamedTuple):
    """A decoded instruction: ``source`` is the number of the register moved to CR0 (0 = RAX)."""

    op: Mnemonic
    length: int
    source: int = 0


def decode(code: bytes, *, long_mode: bool) -> Insn | None:
    """Return the WRMSR or the MOV to CR0 at the start of ``code``, else None.

    ``long_mode`` says that 0x40-0x4f are REX prefixes (CS.L = 1) and not INC and DEC.
    """
    index = 0
    rex = 0
    while index < len(code) and code[index] in _PREFIXES:
        index += 1
    if long_mode and index < len(code) and code[index] in _REX:
        rex = code[index]
        index += 1
    opcode = code[index : index + 2]
    if opcode == b"\x0f\x30":
        return Insn(Mnemonic.WRMSR, index + 2)
    if opcode == b"\x0f\x22" and len(code) > index + 2:
        modrm = code[index + 2]
        # The mod bits are ignored; REX.R would make it CR8.
        if not modrm >> 3 & 7 and not rex & 4:
            return Insn(Mnemonic.MOV_CR0, index + 3, (modrm & 7) | (rex & 1) << 3)
    return None
