"""What callers are told: their frames were not zapped, or nobody zaps here any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from mtrrzap.protocol import Range
from mtrrzap.protocol.operation import show_range


class ClosedError(Exception):
    """It was closed, or ended by an error (its cause), before the call was done."""


class ZapInterruptedError(Exception):
    """A zap was ended by what is no ``Exception``, as Ctrl-C is; the cause says by what.

    The thread in which it happened gets the cause itself; others, whose frames it covered, get
    this.
    """


class ZapError(ExceptionGroup[Exception]):
    """Not all frames of a call were zapped, because zaps raised: these are their exceptions.

    It is always a group, however many there are, because how many share a zap depends on timing.
    """

    ranges: tuple[Range, ...]
    """The frames of the call that no successful zap covered."""

    def __new__(
        cls, message: str, errors: Sequence[Exception], ranges: tuple[Range, ...] = ()
    ) -> Self:
        """Make one; pickles and tools that copy exceptions know the first two arguments only."""
        self = super().__new__(cls, message, errors)
        self.ranges = ranges
        return self

    @classmethod
    def of(cls, ranges: tuple[Range, ...], errors: Sequence[Exception]) -> Self:
        """Make one for the frames that were not zapped."""
        frames = ", ".join(show_range(*each) for each in ranges[:3])
        more = f" and {len(ranges) - 3} more" if len(ranges) > 3 else ""
        return cls(f"not zapped: {frames}{more}", errors, ranges)

    def derive(self, errors: Sequence[Exception]) -> ZapError:  # type: ignore[override]
        """Return a part of the group, as ``except*`` does."""
        return ZapError(self.message, errors, self.ranges)
