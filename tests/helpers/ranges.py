"""Variable ranges for tests of the lookup."""

from mtrrzap.x86.mtrr import Mtrrs

UC, WC, WT, WP, WB = 0, 1, 4, 5, 6


GIB = 1 << 30


def with_ranges(*ranges: tuple[int, int, int], width: int = 36) -> Mtrrs:
    """E = 1, FE = 0, default UC; each range is (type, base, size), size a power of two."""
    state = Mtrrs(width).write(0x2FF, 0x800)
    for index, (kind, base, size) in enumerate(ranges):
        state = state.write(0x200 + 2 * index, base | kind)
        state = state.write(0x201 + 2 * index, (1 << width) - size | 0x800)
    return state
