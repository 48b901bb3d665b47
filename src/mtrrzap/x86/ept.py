"""The memory type of an access through EPT (SDM vol. 3, "EPT and Memory Typing")."""

from typing import NamedTuple

from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.pat import EFFECTIVE


class EptType(NamedTuple):
    """The memory type of an EPT leaf entry: bits 5:3, and "ignore PAT", bit 6."""

    type: MemType
    ipat: bool = False

    @property
    def bits(self) -> int:
        """Bits 6:3 as they stand in the entry; mask 0x78."""
        return int(self.type) << 3 | self.ipat << 6

    @classmethod
    def from_entry(cls, entry: int) -> "EptType":
        """Decode an EPT entry. Raises ``ValueError`` for 2, 3 and 7: an EPT misconfiguration."""
        kind = entry >> 3 & 7
        if kind not in (0, 1, 4, 5, 6):
            raise ValueError(f"EPT memory type {kind} is a misconfiguration")
        return cls(MemType(kind), bool(entry & 0x40))

    def __str__(self) -> str:
        """Return ``WB`` or ``WB+IPAT``."""
        return f"{self.type}+IPAT" if self.ipat else str(self.type)


def effective(
    ept: EptType, pat: MemType, *, paging: bool = True, hardware_cd: bool = False
) -> MemType:
    """Return the effective type of a guest access.

    ``pat`` is the type that the guest's PAT and page tables select; with guest paging off it counts
    as WB. ``hardware_cd`` is CR0.CD as the processor runs with it; KVM on VMX always clears it.
    """
    if hardware_cd:
        return MemType.UC
    if ept.ipat:
        return ept.type
    return EFFECTIVE[ept.type][pat if paging else MemType.WB]
