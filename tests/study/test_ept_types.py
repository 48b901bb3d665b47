"""Effective types under EPT, held against a plain reading of the rules, one address at a time."""

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.ranges import GIB, UC, with_ranges
from helpers.strategies import mtrrs
from mtrrzap.kvm.lookup import lookup
from mtrrzap.study import ept_types
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs

TABLE = """
   UC UC- WC WT WP WB
UC UC UC  WC UC UC UC
WC UC WC  WC UC UC WC
WT UC UC  WC WT WP WT
WP UC WC  WC WT WP WP
WB UC UC  WC WT WP WB
"""
"""MTRR or EPT type by PAT type, as the manual's table of effective types has it."""
HEAD, *BODY = TABLE.split("\n")[1:-1]
COMBINED = {
    (row.split()[0], pat): kind
    for row in BODY
    for pat, kind in zip(HEAD.split(), row.split()[1:], strict=True)
}


def expected(kernel: str, case: str, mtrr: str, pat: str) -> str:
    """What a guest access gets: host MMIO, coherent DMA, CR0.CD, MTRRs, in KVM's order."""
    if case == "a host device's memory":
        return COMBINED["UC", pat]
    if case == "coherent DMA":
        return "WB"
    if "IGNORE_GUEST_PAT off" in case:
        return COMBINED["WB", pat]
    if "CD_NW_CLEARED off" in case:
        return "UC"
    if "CR0.CD = 1" in case:
        return "WB" if kernel == "v4.2 to v6.6" else COMBINED["WB", pat]
    return COMBINED["WB" if kernel == "v6.11 on" else mtrr, pat]


@settings(max_examples=40, deadline=None)
@given(mtrrs(), st.integers(0, 1 << 20))
def test_every_case_at_an_address(state: Mtrrs, place: int) -> None:
    address = place % (1 << state.maxphyaddr - 12) << 12
    mtrr = str(lookup(state, address))
    rows = [row for row in ept_types.rows(state) if row.start <= address < row.end]
    assert [(row.kernel, row.case) for row in rows] == [c[0:3:2] for c in ept_types.CASES]
    for row in rows:
        for pat, kind in row.effective().items():
            assert str(kind) == expected(row.kernel, row.case, mtrr, str(pat)), (row, pat)


def test_a_hole_shows_only_where_mtrrs_are_honoured() -> None:
    state = with_ranges((UC, 3 * GIB, GIB)).write(0x2FF, 0x806)
    rows = list(ept_types.rows(state))
    split = {(row.kernel, row.case) for row in rows if row.start == 3 * GIB}
    assert split == {(k, "non-coherent DMA") for k in ("v4.2 to v6.6", "v6.7 to v6.10")}
    found = next(row for row in rows if row.start == 3 * GIB)
    assert (found.end, str(found.ept)) == (4 * GIB, "UC")
    assert found.effective()[MemType.WC] is MemType.WC
