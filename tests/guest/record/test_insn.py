"""The two instructions that the recorder stops at, and what looks like them."""

import pytest

from mtrrzap.guest.record.insn import Insn, Mnemonic, decode

WRMSR = Insn(Mnemonic.WRMSR, 2)


@pytest.mark.parametrize(
    ("code", "in_long_mode", "elsewhere"),
    [
        ("0f 30 c3", WRMSR, WRMSR),
        ("66 0f 30", Insn(Mnemonic.WRMSR, 3), Insn(Mnemonic.WRMSR, 3)),
        ("0f 22 c0", Insn(Mnemonic.MOV_CR0, 3, 0), Insn(Mnemonic.MOV_CR0, 3, 0)),
        ("0f 22 c1", Insn(Mnemonic.MOV_CR0, 3, 1), Insn(Mnemonic.MOV_CR0, 3, 1)),
        ("0f 22 c7", Insn(Mnemonic.MOV_CR0, 3, 7), Insn(Mnemonic.MOV_CR0, 3, 7)),
        ("0f 22 07", Insn(Mnemonic.MOV_CR0, 3, 7), Insn(Mnemonic.MOV_CR0, 3, 7)),  # mod is ignored
        ("66 0f 22 c2", Insn(Mnemonic.MOV_CR0, 4, 2), Insn(Mnemonic.MOV_CR0, 4, 2)),
        ("41 0f 22 c2", Insn(Mnemonic.MOV_CR0, 4, 10), None),  # REX.B; INC ECX elsewhere
        ("44 0f 22 c0", None, None),  # REX.R: CR8
        ("48 0f 30", Insn(Mnemonic.WRMSR, 3), None),
        ("0f 22 d8", None, None),  # CR3
        ("0f 22 e0", None, None),  # CR4
        ("0f 20 c0", None, None),  # a read
        ("0f 32", None, None),  # RDMSR
        ("f0 0f 22 c0", None, None),  # LOCK: CR8 on AMD, #UD on Intel
        ("0f 22", None, None),  # cut short
        ("0f", None, None),
        ("", None, None),
    ],
)
def test_decode(code: str, in_long_mode: Insn | None, elsewhere: Insn | None) -> None:
    raw = bytes.fromhex(code)
    assert decode(raw, long_mode=True) == in_long_mode
    assert decode(raw, long_mode=False) == elsewhere
