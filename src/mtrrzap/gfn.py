"""Guest frame numbers and ranges of them, which every room counts memory in; sizes as written."""

from typing import NamedTuple

from mtrrzap.errors import UserError

PAGE_SHIFT = 12
"""A guest frame is 4 KiB: gfn = gpa >> 12."""


class Range(NamedTuple):
    """Guest frames ``[start, end)``. Empty if ``end <= start``. Equal to the tuple of both."""

    start: int
    end: int

    @property
    def frames(self) -> int:
        """Return the number of frames in the range."""
        return max(0, self.end - self.start)

    def __str__(self) -> str:
        """Return ``[0xa0, 0x100)``."""
        return f"[{self.start:#x}, {self.end:#x})"


EVERYTHING = Range(0, ((1 << 64) - 1) >> PAGE_SHIFT)
"""What KVM and the series zap for "everything": ``gpa_to_gfn(0)`` to ``gpa_to_gfn(~0)``.

The end is exclusive, so the last gfn of 52 bits is not in it. No guest has that frame.
"""

ALL_GFNS = Range(0, 1 << 64 - PAGE_SHIFT)
"""Every gfn of 52 bits. One frame more than `EVERYTHING`, so the size is a power of two.

The review's static array packs blocks of such sizes only: it rounds `EVERYTHING` up to this.
"""

SHIFTS = {"T": 40, "G": 30, "M": 20}
"""log2 of the units in which users write sizes of memory."""


def parse_size(text: str) -> int:
    """Return a number of bytes: ``64G``, ``12T``, ``512MB``. Raises ``UserError``."""
    word = text.upper().removesuffix("B")
    number, unit = word[:-1], word[-1:]
    if unit not in SHIFTS or not (number.isascii() and number.isdecimal() and len(number) < 20):
        raise UserError(
            f"invalid size {text!r}",
            place="memory",
            mend="write a number and its unit: for example 512M, 64G or 12T",
        )
    return int(number) << SHIFTS[unit]
