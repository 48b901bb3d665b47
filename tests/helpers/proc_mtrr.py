"""What a Linux guest shows in /proc/mtrr: as it prints it, and as its console shows it."""

from mtrrzap.guest.busybox import BEGIN, END
from mtrrzap.guest.listing.linux_map import TYPES
from mtrrzap.x86 import msr as m
from mtrrzap.x86.mtrr import Mtrrs

_PAGE = 0xFFF
_NAMES = {kind: name for name, kind in TYPES.items()}


def proc_mtrr(mtrrs: Mtrrs) -> list[str]:
    """Return what a Linux guest with these MTRRs shows in ``/proc/mtrr``.

    ``mtrr_seq_show`` in arch/x86/kernel/cpu/mtrr/if.c; its use count is taken as 1. A mask with
    holes has no size there and is left out.
    """
    lines = []
    full = (1 << mtrrs.maxphyaddr) - 1
    for index in range(m.VCNT):
        size = (full & ~((mtrrs.masks[index] or 0) & ~_PAGE)) + 1
        if not mtrrs.valid(index) or size & (size - 1):
            continue
        base = mtrrs.bases[index] & ~_PAGE
        shown = f"{size >> 20:5}M" if size >= 1 << 20 else f"{size >> 10:5}K"
        lines.append(
            f"reg{index:02}: base=0x{base >> 12:06x}000 ({base >> 20:5}MB), size={shown}B, "
            f"count=1: {_NAMES[mtrrs.variable_type(index)]}"
        )
    return lines


def from_console(console: str) -> str | None:
    """What the guest printed between the two marker lines, or None if it did not."""
    _, begin, rest = console.replace("\r\n", "\n").partition(BEGIN + "\n")
    body, end, _ = rest.partition(END)
    return body if begin and end else None
