"""What is kept of a capture: records of threads, before anyone knows which vCPU a thread is."""

from dataclasses import dataclass, field
from enum import IntEnum, auto

MAX_RECORDS = 500_000
"""Records kept; a capture with more is cut there, so that a hostile one cannot fill the memory."""
MAX_THREADS = 1 << 16


class What(IntEnum):
    """What a record says its thread did or showed."""

    WRITE = auto()
    """WRMSR: ``number`` is the MSR."""
    READ = auto()
    """RDMSR with a value that is news."""
    WRITE_CR0 = auto()
    READ_CR0 = auto()
    INIT = auto()
    """An INIT that APIC ``number`` accepted; the thread is the sender."""
    INIT_IPI = auto()
    """An INIT sent; ``number`` is the destination, ``value`` a ``Shorthand``."""
    RESET = auto()
    """The vCPU entered the guest at the reset vector."""


class Shorthand(IntEnum):
    """To whom an IPI goes."""

    DST = 0
    SELF = 1
    ALL = 2
    OTHERS = 3


@dataclass(slots=True)
class Record:
    """One thing seen on one thread, in the order of the capture."""

    what: What
    tid: int
    time_ns: int | None
    number: int = 0
    value: int = 0
    refused: bool = False
    vcpu: int | None = None
    """The vCPU that the nearest kvm_entry or kvm_exit of the thread names."""
    cost_ns: int | None = None
    """From the exit that the write caused to the next entry."""


@dataclass(slots=True)
class Thread:
    """A thread with at least one record, and what its vCPU's registers are known to hold."""

    tid: int
    name: bytes | None = None
    tgid: int | None = None
    vcpu: int | None = None
    """As ``Record.vcpu``, the latest."""
    cr0: int | None = None
    paging: bool | None = None
    """CR0.PG as last seen."""
    reset_ns: int | None = None
    """Time stamp of the thread's latest entry at the reset vector."""
    msrs: dict[int, int] = field(default_factory=dict)
    deassert: bool = False
    """The last IPI that the thread sent was the de-assert of a level-triggered INIT."""
    half_init: set[int] = field(default_factory=set)
    """APICs that accepted a level-triggered INIT whose de-assert is still to come."""

    def forget(self) -> None:
        """Forget the registers: the machine was reset, or events were lost."""
        self.cr0 = None
        self.msrs.clear()


@dataclass(slots=True)
class Seen:
    """Facts about a whole capture."""

    records: list[Record] = field(default_factory=list)
    threads: dict[int, Thread] = field(default_factory=dict)
    reader: str = "ftrace"
    cr0_events: int = 0
    """Accesses to CR0 seen, most of which change neither CD nor NW and are not kept."""
    ipi_events: bool = False
    """Some kvm_apic_ipi showed an INIT."""
    counted_time: bool = True
    """Time stamps are seconds."""
    losses: list[str] = field(default_factory=list)
    """Why the capture is not whole."""
    start_lost: bool = False
    """The oldest events are gone, so the capture does not begin where it seems to."""
