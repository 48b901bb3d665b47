"""The memory type of an EPT leaf entry (SDM vol. 3, "EPT and Memory Typing")."""

from typing import NamedTuple

from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.pat import EFFECTIVE


class EptType(NamedTuple):
    """Bits 5:3 of the entry, the type, and bit 6, "ignore PAT" (IPAT).

    With IPAT the access has the type of the entry. Without it the type combines with the guest's
    PAT as an MTRR type would (``pat.EFFECTIVE``).
    """

    type: MemType
    ipat: bool = False

    def with_pat(self, kind: MemType) -> MemType:
        """Return the effective type of an access whose PAT entry has a type, with CR0.CD = 0."""
        return self.type if self.ipat else EFFECTIVE[self.type][kind]

    def __str__(self) -> str:
        return f"{self.type}+IPAT" if self.ipat else str(self.type)
