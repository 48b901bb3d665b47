"""IA32_PAT, and the type that an MTRR and a PAT entry give together, as a table."""

from mtrrzap.x86.memtype import MemType

_UC, _UCM, _WC = MemType.UC, MemType.UC_MINUS, MemType.WC
_WT, _WP, _WB = MemType.WT, MemType.WP, MemType.WB

EFFECTIVE: dict[MemType, dict[MemType, MemType]] = {
    _UC: {_UC: _UC, _UCM: _UC, _WC: _WC, _WT: _UC, _WP: _UC, _WB: _UC},
    _WC: {_UC: _UC, _UCM: _WC, _WC: _WC, _WT: _UC, _WP: _UC, _WB: _WC},
    _WT: {_UC: _UC, _UCM: _UC, _WC: _WC, _WT: _WT, _WP: _WP, _WB: _WT},
    _WP: {_UC: _UC, _UCM: _WC, _WC: _WC, _WT: _WT, _WP: _WP, _WB: _WP},
    _WB: {_UC: _UC, _UCM: _UC, _WC: _WC, _WT: _WT, _WP: _WP, _WB: _WB},
}
"""``EFFECTIVE[mtrr][pat]`` (SDM vol. 3, "Effective Page-Level Memory Types for Pentium III and More
Recent Processor Families"). Older processors left the cells WP x UC-, WP x WT, WT x WP, WC x WT and
WC x WP undefined."""


def entries(pat: int) -> tuple[MemType, ...]:
    """Return the eight types that IA32_PAT holds, entry 0 first. ``pat`` must be a valid value."""
    return tuple(MemType(byte) for byte in pat.to_bytes(8, "little"))
