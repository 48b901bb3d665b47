"""The memory type of a physical address by the manual's rules, and the whole map as segments.

KVM's own lookup is in ``mtrrzap.kvm.lookup``. It differs where variable ranges overlap or are
malformed. SDM vol. 3, "Variable Range MTRRs" (matching) and "MTRR Precedences".
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple, TypeVar

from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs

FOUR_GIB = 1 << 32
_PAGE = 0xFFF
_V = TypeVar("_V")


class TypeAt(NamedTuple):
    """A type and the registers that decided it; ``type`` is None where the manual defines none."""

    type: MemType | None
    deciders: tuple[str, ...]


class MapSegment(NamedTuple):
    """A stretch ``[start, end)`` of physical addresses, in bytes, with one lookup result."""

    start: int
    end: int
    type: MemType | None
    deciders: tuple[str, ...]


def precedence(types: Iterable[MemType]) -> MemType | None:
    """Return the type of overlapping variable ranges, None where the manual calls it undefined."""
    found = set(types)
    if len(found) == 1:
        return found.pop()
    if MemType.UC in found:
        return MemType.UC
    if found == {MemType.WT, MemType.WB}:
        return MemType.WT
    return None


def fixed_decider(address: int) -> tuple[int, int, str]:
    """Return (position in ``msr.FIXED``, byte, name) of the sub-range of an address < 1 MiB."""
    for position, fixed in enumerate(m.FIXED):
        if address < fixed.end:
            byte = (address - fixed.start) // fixed.step
            return position, byte, f"{fixed.name}[{byte}]"
    raise ValueError(f"{address:#x} is not below 1 MiB")


def matches(mtrrs: Mtrrs, index: int, address: int) -> bool:
    """Tell if a variable range is valid and ``address & mask == base & mask``."""
    mask = (mtrrs.masks[index] or 0) & ~_PAGE
    return mtrrs.valid(index) and address & mask == mtrrs.bases[index] & mask


def lookup(mtrrs: Mtrrs, address: int) -> TypeAt:
    """Return the type that the manual gives a physical address below 2^MAXPHYADDR."""
    if not mtrrs.enabled:
        return TypeAt(MemType.UC, ("E=0",))
    if address < m.FIXED_END and mtrrs.fixed_enabled:
        position, byte, name = fixed_decider(address)
        return TypeAt(MemType(mtrrs.fixed[position] >> 8 * byte & 0xFF), (name,))
    hits = [index for index in range(mtrrs.vcnt) if matches(mtrrs, index, address)]
    if not hits:
        if FOUR_GIB <= address < mtrrs.tom2:
            return TypeAt(MemType.WB, ("TOM2",))
        return TypeAt(mtrrs.default, ("default",))
    names = tuple(f"PHYS{index}" for index in hits)
    return TypeAt(precedence(mtrrs.variable_type(index) for index in hits), names)


def stretches(
    edges: Iterable[int], at: Callable[[int], _V], top: int
) -> Iterator[tuple[int, int, _V]]:
    """Yield ``(start, end, value)`` from 0 to ``top``, ascending; neighbours differ.

    ``edges`` ascend; between two of them ``at`` is constant.
    """
    start, found = 0, at(0)
    for edge in edges:
        here = at(edge)
        if here != found:
            yield start, edge, found
            start, found = edge, here
    yield start, top, found


def physical_map(mtrrs: Mtrrs) -> Iterator[MapSegment]:
    """Yield the whole map, ascending, from 0 to 2^MAXPHYADDR; neighbours differ.

    This is an iterator because a mask with holes may make millions of segments.
    """
    top = 1 << mtrrs.maxphyaddr
    for start, end, found in stretches(_changes(mtrrs, top), partial(lookup, mtrrs), top):
        yield MapSegment(start, end, *found)


def _changes(mtrrs: Mtrrs, top: int) -> Iterator[int]:
    address = 0
    while (address := _next_change(mtrrs, address)) < top:
        yield address


def _next_change(mtrrs: Mtrrs, address: int) -> int:
    """Return an address above this one up to which the lookup is constant."""
    if not mtrrs.enabled:
        return 1 << mtrrs.maxphyaddr
    if address < m.FIXED_END and mtrrs.fixed_enabled:
        position, byte, _ = fixed_decider(address)
        return m.FIXED[position].start + (byte + 1) * m.FIXED[position].step
    changes = [
        _next_flip(mtrrs.bases[index], mtrrs.masks[index] or 0, address, mtrrs.maxphyaddr)
        for index in range(mtrrs.vcnt)
        if mtrrs.valid(index)
    ]
    if mtrrs.tom2:
        changes += [edge for edge in (FOUR_GIB, mtrrs.tom2) if edge > address]
    return min(changes, default=1 << mtrrs.maxphyaddr)


def _next_flip(base: int, mask: int, address: int, width: int) -> int:
    """Return the first address above this one whose match of (base, mask) is the opposite."""
    mask &= ~_PAGE
    want = base & mask
    if not mask:
        return 1 << width
    if address & mask == want:
        # Counting up flips the lowest masked bit first.
        lowest = mask & -mask
        return (address | (lowest - 1)) + 1
    # The next match shares a prefix with the address, has a 1 where the address has a 0 (bit
    # ``turn``), and below it is as small as the mask allows. The lowest such bit is the nearest.
    for turn in range(12, width):
        bit = 1 << turn
        above = ~(2 * bit - 1)
        if (address ^ want) & mask & above or address & bit or (mask & bit and not want & bit):
            continue
        return (address & above) | bit | (want & (bit - 1))
    return 1 << width
