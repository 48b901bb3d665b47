"""CR0.CD and CR0.NW, and what RESET and INIT do to CR0 (SDM vol. 3, "Processor State After Reset").

RESET sets CD and NW. INIT preserves both, because it does not flush the caches; it clears all other
bits except ET.
"""

PE = 1 << 0
ET = 1 << 4
AM = 1 << 18
NW = 1 << 29
CD = 1 << 30
PG = 1 << 31

CD_NW = CD | NW
"""Both bits: the caching mode."""

RESET = CD_NW | ET
"""CR0 after power-on and RESET: 0x60000010."""


def after_init(cr0: int) -> int:
    """Return CR0 after INIT, given CR0 before it."""
    return (cr0 & CD_NW) | ET


def broken_rule(cr0: int) -> str | None:
    """Return the rule that a MOV of this value to CR0 breaks (#GP), or None if it is accepted."""
    if cr0 >> 32:
        return "bits 63:32 are reserved"
    if cr0 & NW and not cr0 & CD:
        return "NW = 1 needs CD = 1"
    if cr0 & PG and not cr0 & PE:
        return "PG = 1 needs PE = 1"
    return None
