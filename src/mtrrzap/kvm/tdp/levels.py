"""Levels of the page table and the frames that one entry of a level covers.

An entry covers 1 frame at level 1, 512 at 2 (2 MiB), 0x40000 at 3 (1 GiB), 0x8000000 at 4 and
0x1000000000 at 5. A page-table page of a level holds 512 entries of it.
"""

from typing import Literal

from mtrrzap.errors import UserError

BITS = 9
"""log2 of the entries in a page-table page."""

TOP_LEAF = 3
"""The highest level of a leaf: 1 GiB."""

PageSize = Literal["4K", "2M", "1G"]
"""The size of a page, as users write it."""
_LEVELS = {"4K": 1, "2M": 2, "1G": 3}


def level_of(page_size: PageSize) -> int:
    """Return the level of a leaf of this size. Raises ``UserError``."""
    if page_size not in tuple(_LEVELS):
        raise UserError(f"invalid page size {page_size!r}", mend=f"use {', '.join(_LEVELS)}")
    return _LEVELS[page_size]


def frames(level: int) -> int:
    """Return the frames that one entry of a level covers."""
    return 1 << BITS * (level - 1)


def down(gfn: int, level: int) -> int:
    """Align a frame down to an entry of a level."""
    return gfn & -frames(level)


def up(gfn: int, level: int) -> int:
    """Align a frame up to an entry of a level."""
    return down(gfn + frames(level) - 1, level)
