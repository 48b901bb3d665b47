"""The MTRRs as MSRs: what is refused, by which rule, and what a write changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import PAT_RESET, MsrRefusedError, Mtrrs, broken_rule

types = st.sampled_from([0, 1, 4, 5, 6])
eight_types = st.lists(types, min_size=8, max_size=8).map(lambda b: int.from_bytes(b, "little"))
page = st.integers(0, 2**28 - 1).map(lambda gfn: gfn << 12)
valid_writes = st.one_of(
    st.tuples(st.sampled_from(sorted(m.FIXED_INDEX)), eight_types),
    st.tuples(st.sampled_from(m.VARIABLE[::2]), st.builds(lambda a, t: a | t, page, types)),
    st.tuples(
        st.sampled_from(m.VARIABLE[1::2]),
        st.builds(lambda a, v: a | v, page, st.sampled_from([0, m.PHYSMASK_V])),
    ),
    st.tuples(
        st.just(m.DEF_TYPE),
        st.builds(lambda f, t: f | t, st.sampled_from([0, 0x400, 0x800, 0xC00]), types),
    ),
    st.tuples(st.just(m.PAT), eight_types),
)


def test_reset_state() -> None:
    state = Mtrrs()
    assert [state.read(msr) for msr in sorted(m.MTRR_MSRS)] == [0] * 28
    assert state.read(m.PAT) == PAT_RESET
    assert state.read(m.MTRRCAP) == 0x508
    assert not state.enabled
    assert not any(state.valid(index) for index in range(8))


def test_fixed_msrs_cover_the_first_mib_without_gaps() -> None:
    assert len(m.FIXED) == 11
    edges = [edge for fixed in m.FIXED for edge in (fixed.start, fixed.end)]
    assert edges == sorted(edges)
    assert edges[0] == 0
    assert edges[-1] == m.FIXED_END
    assert edges[1:-1:2] == edges[2::2]
    assert [f.msr for f in m.FIXED] == [0x250, 0x258, 0x259, *range(0x268, 0x270)]


@pytest.mark.parametrize(
    ("msr", "name"),
    [
        (0x200, "PHYSBASE0"),
        (0x20F, "PHYSMASK7"),
        (0x250, "FIX64K_00000"),
        (0x26F, "FIX4K_F8000"),
        (0x2FF, "DEF_TYPE"),
        (0x277, "PAT"),
        (0xFE, "MTRRCAP"),
        (0x210, "PHYSBASE8"),
    ],
)
def test_names(msr: int, name: str) -> None:
    assert m.name(msr) == name


@given(st.lists(valid_writes, max_size=20))
def test_a_write_changes_one_msr(writes: list[tuple[int, int]]) -> None:
    state, expected = Mtrrs(40), dict.fromkeys(m.MTRR_MSRS, 0) | {m.PAT: PAT_RESET}
    for msr, value in writes:
        state = state.write(msr, value)
        expected[msr] = value
        assert {n: state.read(n) for n in expected} == expected


@pytest.mark.parametrize(
    ("msr", "value", "rule"),
    [
        (0x200, 1 << 40, "bits 63:40 are reserved (MAXPHYADDR is 40)"),
        (0x200, 0x100, "bits 11:8 are reserved"),
        (0x200, 0x2, "2 is not a memory type of an MTRR"),
        (0x200, 0x7, "7 is not a memory type of an MTRR"),
        (0x201, 0x400, "bits 10:0 are reserved"),
        (0x201, 1 << 63, "bits 63:40 are reserved (MAXPHYADDR is 40)"),
        (0x250, 0x0600030000000006, "byte 5 is 0x3, which is not a memory type there"),
        (0x250, 0x07, "byte 0 is 0x7, which is not a memory type there"),
        (0x277, 0x0300000000000000, "byte 7 is 0x3, which is not a memory type there"),
        (0x2FF, 0x1000, "bits 63:12 and 9:8 are reserved"),
        (0x2FF, 0x200, "bits 63:12 and 9:8 are reserved"),
        (0x2FF, 0xC03, "3 is not a memory type of an MTRR"),
        (0xFE, 0x508, "the MSR is read-only"),
        (0x210, 0, "not an MTRR"),
        (0x10, 0, "not an MTRR"),
        (0x2FF, 1 << 64, "the value has more than 64 bits"),
    ],
)
def test_refused_writes(msr: int, value: int, rule: str) -> None:
    state = Mtrrs(40)
    with pytest.raises(MsrRefusedError) as caught:
        state.write(msr, value)
    assert (caught.value.msr, caught.value.value, caught.value.rule) == (msr, value, rule)
    assert str(caught.value) == f"MSR {msr:#x} ({m.name(msr)}): write of {value:#x} refused: {rule}"
    assert state == Mtrrs(40)


def test_refused_read() -> None:
    with pytest.raises(MsrRefusedError, match=r"MSR 0x210 .*: read refused: not an MTRR"):
        Mtrrs().read(0x210)


def test_pat_takes_uc_minus_and_mtrrs_do_not() -> None:
    assert broken_rule(m.PAT, PAT_RESET, 40) is None
    assert broken_rule(0x250, PAT_RESET, 40) is not None


def test_fields() -> None:
    state = Mtrrs(40).write(m.DEF_TYPE, 0xC06).write(0x202, 0xC0000000).write(0x203, 0xFFC0000800)
    assert (state.enabled, state.fixed_enabled, state.default) == (True, True, MemType.WB)
    assert [state.valid(index) for index in range(8)] == [False, True] + [False] * 6
    assert state.variable_type(1) is MemType.UC
    state = state.write(0x259, 0x0001040506000104)
    assert state.fixed_types()[16:24] == (4, 1, 0, 6, 5, 4, 1, 0)
