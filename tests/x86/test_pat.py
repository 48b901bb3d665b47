"""MTRR x PAT, and IA32_PAT itself."""

import pytest

from mtrrzap.x86.memtype import MTRR_TYPES, MemType
from mtrrzap.x86.mtrr import PAT_RESET
from mtrrzap.x86.pat import EFFECTIVE, entries

UC, WC, WT, WP, WB, UCM = (MemType(n) for n in (0, 1, 4, 5, 6, 7))


def test_the_table_is_total() -> None:
    assert set(EFFECTIVE) == MTRR_TYPES
    assert all(set(row) == set(MemType) for row in EFFECTIVE.values())
    assert sum(kind is UCM for row in EFFECTIVE.values() for kind in row.values()) == 0


def test_rules_that_hold_in_every_row() -> None:
    """PAT UC wins, PAT WC gives WC, PAT WB gives the MTRR's type."""
    for mtrr in MTRR_TYPES:
        assert (EFFECTIVE[mtrr][UC], EFFECTIVE[mtrr][WC]) == (UC, WC)
        assert EFFECTIVE[mtrr][WB] is mtrr


def test_uc_minus_yields_to_a_wc_mtrr_only() -> None:
    assert {mtrr for mtrr in MTRR_TYPES if EFFECTIVE[mtrr][UCM] is WC} == {WC, WP}


@pytest.mark.parametrize(
    ("mtrr", "row"),
    [
        (WB, (WB, WC, UC, UC, WT)),
        (UC, (UC, WC, UC, UC, UC)),
        (WT, (WT, WC, UC, UC, WT)),
        (WP, (WP, WC, UC, WC, WT)),
        (WC, (WC, WC, UC, WC, UC)),
    ],
    ids=str,
)
def test_rows_of_the_manual(mtrr: MemType, row: tuple[MemType, ...]) -> None:
    assert tuple(EFFECTIVE[mtrr][pat] for pat in (WB, WC, UC, UCM, WT)) == row


def test_reset_entries() -> None:
    assert entries(PAT_RESET) == (WB, WT, UCM, UC) * 2
