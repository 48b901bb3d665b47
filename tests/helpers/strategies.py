"""Random MTRR contents, for the tests that compare lookups with a brute-force oracle."""

from hypothesis import strategies as st

from mtrrzap.x86.mtrr import Mtrrs

WIDTH = 24
"""Bits of the small physical address space that the oracles walk page by page: 4,096 pages."""

TYPES = st.sampled_from([0, 1, 4, 5, 6])
_PAGES = st.integers(0, (1 << WIDTH - 12) - 1).map(lambda gfn: gfn << 12)


@st.composite
def contiguous_mask(draw: st.DrawFn) -> int:
    """A mask as the manual wants it: ones from some bit up to MAXPHYADDR."""
    low = draw(st.integers(12, WIDTH))
    return (1 << WIDTH) - (1 << low)


@st.composite
def mtrrs(draw: st.DrawFn) -> Mtrrs:
    """Any contents that can be written, also those that break the manual's rules for software."""
    masks = st.one_of(contiguous_mask(), _PAGES)
    flags = draw(st.sampled_from([0x000, 0x400, 0x800, 0xC00, 0xC00, 0x800]))
    fixed = draw(
        st.lists(st.lists(TYPES, min_size=8, max_size=8).map(bytes), min_size=11, max_size=11)
    )
    variable = draw(
        st.lists(
            st.none() | st.tuples(_PAGES, TYPES, masks, st.sampled_from([0x800, 0x800, 0])),
            min_size=8,
            max_size=8,
        )
    )
    return Mtrrs(
        maxphyaddr=WIDTH,
        def_type=flags | draw(TYPES),
        fixed=tuple(int.from_bytes(value, "little") for value in fixed),
        bases=tuple(0 if v is None else v[0] | v[1] for v in variable),
        masks=tuple(None if v is None else v[2] | v[3] for v in variable),
    )
