"""What a host has beside its MTRRs: AMD's SYSCFG, TOM2 and IORRs, Intel's SMRR.

AMD's manual, volume 2, "MTRRs" (extended fixed-range fields), "IORRs" and "Top of Memory"; SDM
vol. 3, "SMRR". KVM gives none of them to a guest.
"""

from collections.abc import Iterator, Mapping

from mtrrzap.guest.listing import Listing
from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType

_ADDRESS = (1 << 52) - 1 & ~0xFFF
_DRAM_BITS = 0x1818_1818_1818_1818
"""RdMem and WrMem in the eight bytes of a fixed MTRR."""
_AMD = frozenset(m.OTHERS) - {m.SMRR_PHYSBASE, m.SMRR_PHYSMASK}


def tom2(values: Mapping[int, int]) -> int:
    """Return the address up to which memory from 4 GiB on is WB by default, 0 if it is not."""
    if values.get(m.SYSCFG, 0) & m.SYSCFG_TOM2_WB != m.SYSCFG_TOM2_WB:
        return 0
    return values.get(m.TOP_MEM2, 0) & _ADDRESS


def without_dram_bits(value: int) -> int:
    """Return a fixed MTRR without AMD's RdMem and WrMem, which set no memory type."""
    return value & ~_DRAM_BITS


def processor(found: Listing, vcnt: int) -> str:
    """Return in words for which kind of processor a listing is."""
    amd = found.tom2 or any(_AMD & listed.values.keys() for listed in found.cpus)
    kind = "an AMD processor" if amd else "a processor"
    if vcnt != m.VCNT:
        return f"{kind} with {vcnt} variable ranges; a KVM guest has {m.VCNT}"
    return f"{kind} with {vcnt} variable ranges" + ("" if amd else ", as a KVM guest's vCPU has")


def notes(values: Mapping[int, int]) -> Iterator[str]:
    """Yield what the other registers mean for the map."""
    if any(value & _DRAM_BITS for msr, value in values.items() if msr in m.FIXED_INDEX):
        yield "AMD's RdMem and WrMem bits of the fixed MTRRs are left out: they set no memory type"
    yield from _tops(values)
    for base in (m.IORR_BASE0, m.IORR_BASE0 + 2):
        if values.get(base + 1, 0) & m.PHYSMASK_V:
            yield _iorr(values.get(base, 0), values[base + 1], m.name(base))
    if values.get(m.SMRR_PHYSMASK, 0) & m.PHYSMASK_V:
        yield _smrr(values.get(m.SMRR_PHYSBASE, 0), values[m.SMRR_PHYSMASK])


def _tops(values: Mapping[int, int]) -> Iterator[str]:
    if m.TOP_MEM in values:
        low = values[m.TOP_MEM] & _ADDRESS
        yield f"TOP_MEM = {low:#x}: RAM below 4 GiB ends there; it sets no memory type"
    if m.TOP_MEM2 not in values:
        return
    high = values[m.TOP_MEM2] & _ADDRESS
    if m.SYSCFG not in values:
        yield f"TOP_MEM2 = {high:#x} is not used: whether it makes memory WB is said by SYSCFG"
    elif not tom2(values):
        yield f"TOP_MEM2 = {high:#x} sets no memory type: SYSCFG's bits 21 and 22 are not both set"


def _iorr(base: int, mask: int, name: str) -> str:
    reads, writes = ("RAM" if base & bit else "MMIO" for bit in (1 << 4, 1 << 3))
    start, above = base & mask & _ADDRESS, mask & _ADDRESS
    size = above & -above
    whole = size and (above + size) & above == 0
    place = f"[{start:#x}, {start + size:#x})" if whole else f"{start:#x}"
    return f"{name}: {place} reads {reads}, writes {writes}; it sets no memory type"


def _smrr(base: int, mask: int) -> str:
    start = base & mask & 0xFFFF_F000
    end = start + (~mask & 0xFFFF_F000) + 0x1000
    kind = base & 0xFF
    shown = MemType(kind) if kind in set(MemType) else f"type {kind}"
    return (
        f"SMRR: [{start:#x}, {end:#x}) is {shown} in system-management mode and cannot be reached "
        "outside of it; the map leaves it out"
    )
