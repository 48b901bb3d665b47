"""Listings of MTRRs from outside: MSR dumps, JSON, ``/proc/mtrr``, Linux boot logs.

Nothing here opens a file or checks a rule: the values come out as they were listed.
"""

from mtrrzap.guest.listing import linux, linux_map, msr_dump
from mtrrzap.guest.listing.linux_map import KernelMap
from mtrrzap.guest.listing.registers import ListedRegisters, Listing

__all__ = ["KernelMap", "ListedRegisters", "Listing", "read"]


def read(text: str, name: str, maxphyaddr: int | None = None) -> Listing:
    """Read a listing and find out its kind. ``name`` is used in errors only.

    ``maxphyaddr`` is in bits, if known. Linux lists sizes; masks are computed from them.

    Raises ``UserError`` if it has no MTRR, or at a line that cannot be understood.
    """
    lines = text.split("\n")
    if linux.DEFAULT.search(text):
        return linux.read_log(lines, name)
    if linux.PROC.search(text):
        return linux.read_proc(lines, name, maxphyaddr)
    if linux.CLEANUP.search(text):
        return linux.read_cleanup(lines, name, maxphyaddr)
    if linux_map.HEADER.search(text):
        return linux.read_map(lines, name)
    if text.lstrip()[:1] in ("{", "["):
        return msr_dump.read_json(text, name)
    return msr_dump.read_text(lines, name)
