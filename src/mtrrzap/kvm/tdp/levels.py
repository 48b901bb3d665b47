"""Levels of the page table and the frames that one entry of a level covers.

An entry covers 1 frame at level 1, 512 at 2 (2 MiB), 0x40000 at 3 (1 GiB), 0x8000000 at 4 and
0x1000000000 at 5. A page-table page of a level holds 512 entries of it.
"""

BITS = 9
"""log2 of the entries in a page-table page."""

TOP_LEAF = 3
"""The highest level of a leaf: 1 GiB."""


def frames(level: int) -> int:
    """Return the frames that one entry of a level covers."""
    return 1 << BITS * (level - 1)


def down(gfn: int, level: int) -> int:
    """Align a frame down to an entry of a level."""
    return gfn & -frames(level)


def up(gfn: int, level: int) -> int:
    """Align a frame up to an entry of a level."""
    return down(gfn + frames(level) - 1, level)
