"""How far a recording is."""

from dataclasses import dataclass, field


@dataclass
class Progress:
    """Counters that the recorder sets as it goes; whoever displays them reads them."""

    phase: str = "starting QEMU"
    events: int = 0
    stops: int = 0
    sites: int = 0
    """Instructions found that write an MTRR or CR0."""
    seen: set[int] = field(default_factory=set)
    """vCPUs with an event."""
    last_line: str = ""
    """The last that the guest printed."""
