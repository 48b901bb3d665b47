"""EPT type x IPAT x PAT."""

import pytest

from mtrrzap.x86.ept import EptType, effective
from mtrrzap.x86.memtype import MTRR_TYPES, MemType

UC, WC, WT, WP, WB, UCM = (MemType(n) for n in (0, 1, 4, 5, 6, 7))


@pytest.mark.parametrize(
    ("ept", "row"),
    [
        (EptType(WB, ipat=True), (WB, WB, WB, WB, WB)),
        (EptType(WB), (WB, WC, UC, UC, WT)),
        (EptType(UC), (UC, WC, UC, UC, UC)),
        (EptType(UC, ipat=True), (UC, UC, UC, UC, UC)),
        (EptType(WT), (WT, WC, UC, UC, WT)),
        (EptType(WP), (WP, WC, UC, WC, WT)),
        (EptType(WC), (WC, WC, UC, WC, UC)),
    ],
    ids=str,
)
def test_effective(ept: EptType, row: tuple[MemType, ...]) -> None:
    assert tuple(effective(ept, pat) for pat in (WB, WC, UC, UCM, WT)) == row
    assert effective(ept, UC, paging=False) is effective(ept, WB)
    assert effective(ept, WB, hardware_cd=True) is UC


def test_bits_of_an_entry() -> None:
    written = {"WB+IPAT": 0x70, "WB": 0x30, "UC": 0x00, "UC+IPAT": 0x40}
    written |= {"WC": 0x08, "WT": 0x20, "WP": 0x28}
    every = [EptType(kind, ipat) for kind in sorted(MTRR_TYPES) for ipat in (False, True)]
    assert len(every) == 10
    for entry in every:
        assert EptType.from_entry(entry.bits | 0xF00F_FFFF_F007) == entry
        assert written.get(str(entry), entry.bits) == entry.bits


@pytest.mark.parametrize("kind", [2, 3, 7])
def test_misconfigured_entries(kind: int) -> None:
    with pytest.raises(ValueError, match=f"type {kind} is a misconfiguration"):
        EptType.from_entry(kind << 3)
