"""Memory types and their encodings (SDM vol. 3, "Memory Types That Can Be Encoded in MTRRs")."""

from enum import IntEnum


class MemType(IntEnum):
    """A memory type. ``UC_MINUS`` exists in IA32_PAT only, never in an MTRR or an EPT entry."""

    UC = 0
    WC = 1
    WT = 4
    WP = 5
    WB = 6
    UC_MINUS = 7

    def __str__(self) -> str:
        return "UC-" if self is MemType.UC_MINUS else self.name


MTRR_TYPES = frozenset(MemType) - {MemType.UC_MINUS}
"""The encodings that an MTRR or an EPT entry may hold; 2, 3, 7 and above are reserved."""
