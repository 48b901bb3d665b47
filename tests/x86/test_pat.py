"""MTRR x PAT, and IA32_PAT itself."""

from mtrrzap.x86.memtype import MTRR_TYPES, MemType
from mtrrzap.x86.mtrr import PAT_RESET
from mtrrzap.x86.pat import EFFECTIVE, effective, entries, index

UC, WC, WT, WP, WB, UCM = (MemType(n) for n in (0, 1, 4, 5, 6, 7))


def test_the_table_is_total() -> None:
    assert set(EFFECTIVE) == MTRR_TYPES
    assert all(set(row) == set(MemType) for row in EFFECTIVE.values())
    assert sum(kind is UCM for row in EFFECTIVE.values() for kind in row.values()) == 0


def test_rules_that_hold_in_every_row() -> None:
    """PAT UC wins, PAT WC gives WC, PAT WB gives the MTRR's type."""
    for mtrr in MTRR_TYPES:
        assert effective(mtrr, UC) is UC
        assert effective(mtrr, WC) is WC
        assert effective(mtrr, WB) is mtrr
        assert effective(mtrr, WB, cr0_cd=True) is UC


def test_uc_minus_yields_to_a_wc_mtrr_only() -> None:
    assert {mtrr for mtrr in MTRR_TYPES if effective(mtrr, UCM) is WC} == {WC, WP}


def test_reset_entries_and_index() -> None:
    assert entries(PAT_RESET) == (WB, WT, UCM, UC) * 2
    assert index(pat=True, pcd=False, pwt=True) == 5
