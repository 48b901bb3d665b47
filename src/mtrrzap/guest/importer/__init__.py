"""Captures of a real KVM (trace-cmd, ftrace, perf) as traces. Nothing here opens a file.

``read_capture`` scans a capture once and keeps what matters; ``Capture.trace`` makes a trace of it.
"""

from dataclasses import dataclass

from mtrrzap import __version__
from mtrrzap.guest.importer.assemble import Cost, assemble
from mtrrzap.guest.importer.notes import incomplete, notes
from mtrrzap.guest.importer.records import Seen, What
from mtrrzap.guest.importer.scan import Source, scan
from mtrrzap.guest.importer.start import Start
from mtrrzap.guest.importer.threads import Vm, vms
from mtrrzap.guest.trace import Header, Trace
from mtrrzap.x86 import msr as m

__all__ = ["Capture", "Cost", "Imported", "Known", "Start", "read_capture"]

WIDEST = 52
"""MAXPHYADDR assumed where no mask tells it: the architecture's largest, which refuses least."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the user knows and no capture shows; each has a value that stands for not knowing."""

    firmware: str = "unknown"
    guest_kernel: str = "unknown"
    memory: int = 0
    maxphyaddr: int | None = None
    vcpus: int = 1
    """At least as many."""
    date: str = "unknown"
    command: str = "mtrrzap import"
    start: Start = Start.AUTO


@dataclass(frozen=True, slots=True)
class Imported:
    """One VM's trace and what the capture measured."""

    trace: Trace
    costs: tuple[Cost, ...]


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture that was read: its VMs, and their traces on demand."""

    name: str
    seen: Seen
    vms: tuple[Vm, ...]

    def trace(self, vm: Vm, known: Known) -> Imported:
        """Return one VM's trace."""
        vm_size = max(vm.size, known.vcpus)
        made = assemble(self.seen, vm, known.start)
        width, why = _maxphyaddr(self.seen, vm, known)
        header = Header(
            firmware=known.firmware,
            guest_kernel=known.guest_kernel,
            vcpus=vm_size,
            memory=known.memory,
            maxphyaddr=width,
            machine="unknown",
            recorder=f"mtrrzap {__version__} from {self.seen.reader} text",
            date=known.date,
            command=known.command,
            host_writes="none: user space's writes leave no event",
            notes=notes(self.seen, vm, made, why),
        )
        trace = Trace(header, tuple(made.events), incomplete(self.seen))
        return Imported(trace, tuple(made.costs))


def _maxphyaddr(seen: Seen, vm: Vm, known: Known) -> tuple[int, str]:
    if known.maxphyaddr is not None:
        return known.maxphyaddr, "MAXPHYADDR is as given on the command line"
    bits = max(
        (
            record.value.bit_length()
            for record in seen.records
            if record.what in (What.WRITE, What.READ)
            and record.tid in vm.vcpus
            and record.number in m.VARIABLE
            and record.number & 1
            and not record.refused
        ),
        default=0,
    )
    if 32 <= bits <= WIDEST:
        return bits, "MAXPHYADDR is that of the widest mask of a variable MTRR"
    return WIDEST, f"MAXPHYADDR is not known: {WIDEST} is assumed"


def read_capture(source: Source, name: str) -> Capture:
    """Read a capture's text. ``name`` is used in errors only.

    Raises ``UserError`` if a line cannot be understood or nothing of KVM is there.
    """
    seen = scan(source, name)
    return Capture(name, seen, tuple(vms(seen)))
