"""A capture that was read, and the traces of its VMs: headers, notes, measured costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from mtrrzap import __version__
from mtrrzap.errors import UserError, docs_page
from mtrrzap.guest.importer.assemble import Assembled, Start, assemble
from mtrrzap.guest.importer.event_text import THREADLESS
from mtrrzap.guest.importer.records import CapturedVm, Seen, What, vms
from mtrrzap.guest.importer.scan import Source, scan
from mtrrzap.guest.measured_costs import Cost
from mtrrzap.guest.trace import Header, Trace
from mtrrzap.x86 import msr as m

_MTRR, _SREGS = b"kvm_mtrr_set_msr", b"kvm_arch_vcpu_ioctl_set_sregs"
_CR0, _ZAP = b"kvm_post_set_cr0", b"kvm_zap_gfn_range"


def blind_spots(seen: Seen) -> Iterator[str]:
    """Say what no capture without further kprobes shows.

    Of KVM's trace events in general (v6.1: kvm_set_cr0 traces first, kvm_emulate_wrmsr last).
    """
    if _MTRR not in seen.probes:
        yield (
            "not in any capture: what user space writes through ioctls"
            " (KVM_SET_MSRS, KVM_SET_SREGS); kprobes show it"
        )
    elif _SREGS not in seen.probes:
        yield "no KVM_SET_SREGS was seen: none was made, or it was not probed"
    if _CR0 not in seen.probes:
        yield (
            "not in any capture: on Intel, a MOV to CR0 that changes no bit the host owns; on AMD"
            " without decode assists, any MOV to CR0 (KVM emulates it)"
        )
        yield "a CR0 event's time is before its zap, an MSR event's is after it"


def notes(seen: Seen, vm: CapturedVm, made: Assembled, width: str) -> tuple[str, ...]:
    """Return the notes; ``width`` says where MAXPHYADDR is from."""
    start = "the power-on" if made.start.power_on else "a running guest"
    found = [
        f"vCPUs were identified {vm.attribution()}",
        f"the capture begins with {start}: {made.start.why}",
    ]
    if not made.start.power_on:
        found.append("registers that the guest did not read before writing them are unknown")
    if made.resets:
        found.append(f"the machine was reset {made.resets} times later; all vCPUs are taken along")
    if made.surprises:
        found.append(
            f"{made.surprises} reads gave values that nobody was seen to write (held-cr0, held-msr)"
        )
    if made.foreign_inits:
        found.append(
            f"{made.foreign_inits} INITs to APICs with no vCPU thread in the capture are left out"
        )
    if not made.inits_probed and (
        seen.ipi_events or any(event.kind.value == "init" for event in made.events)
    ):
        found.append("APIC ids were taken for vCPU numbers")
    if not seen.counted_time:
        found.append(
            "the capture's times do not count seconds, or are not in order (perf's --deltatime): "
            "events have none"
        )
    found.append(width)
    if made.costs:
        found.append(f"measured, exit to entry: {summary(made.costs)}")
    if made.refused_host_writes:
        found.append(
            f"{made.refused_host_writes} writes by user space that KVM refused are left out"
        )
    if made.zaps is not None:
        found.append(f"measured: {len(made.zaps.calls)} calls of kvm_zap_gfn_range")
    if _MTRR in seen.probes and b"kvm_set_msr_common" not in seen.probes:
        found.append(
            "kvm_set_msr_common was not probed, so user space's writes are taken for the guest's"
        )
    return (*found, *blind_spots(seen))


def summary(costs: list[Cost]) -> str:
    """Return total, median and worst of some measured costs in one phrase."""
    values = [cost.cost_ns for cost in costs]
    return (
        f"{len(values)} MTRR writes took {_us(sum(values))} us in all, "
        f"median {_us(int(median(values)))} us, worst {_us(max(values))} us"
    )


def _us(nanoseconds: int) -> str:
    return f"{nanoseconds / 1000:.0f}"


def incomplete(seen: Seen) -> str | None:
    """Return why the trace is not whole, None if nothing says so."""
    reasons = list(seen.losses)
    if not seen.cr0_events:
        reasons.append(
            "the capture has no CR0 access: kvm:kvm_cr was not recorded, or KVM emulates"
        )
    return "; ".join(reasons) or None


WIDEST = 52
"""MAXPHYADDR if no mask shows it: the architecture's largest, which refuses the fewest writes."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a capture cannot show. Every field has a value that means "unknown"."""

    firmware: str = "unknown"
    guest_kernel: str = "unknown"
    memory: int = 0
    maxphyaddr: int | None = None
    vcpus: int | None = None
    """At least as many. 1: lines that name no thread are the only vCPU's."""
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
    vms: tuple[CapturedVm, ...]

    def trace(self, vm: CapturedVm, known: Known) -> Imported:
        """Return one VM's trace."""
        if THREADLESS in vm.vcpus and known.vcpus != 1:
            raise UserError(
                "its lines name no thread and no CPU, so the vCPU of an event is unknown",
                place=f"{self.name}:1",
                mend=f"capture them ({docs_page('capture')}), or say that the guest has one vCPU",
            )
        vm_size = max(vm.size, known.vcpus or 1)
        made = assemble(self.seen, vm, known.start)
        width, why = _maxphyaddr(self.seen, vm, known)
        if known.memory > 1 << width:
            raise UserError(
                f"{known.memory:#x} bytes are beyond MAXPHYADDR, {width} bits ({why})",
                place="memory",
                mend="give less, or the guest's MAXPHYADDR",
            )
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
            host_writes=_host_writes(self.seen),
            notes=notes(self.seen, vm, made, why),
        )
        trace = Trace(header, tuple(made.events), incomplete(self.seen), zaps=made.zaps)
        return Imported(trace, tuple(made.costs))


def _host_writes(seen: Seen) -> str:
    if _MTRR in seen.probes:
        return "measured: KVM_SET_MSRS as kprobes saw it"
    return "none: user space's writes leave no event"


def _maxphyaddr(seen: Seen, vm: CapturedVm, known: Known) -> tuple[int, str]:
    if known.maxphyaddr is not None:
        return known.maxphyaddr, "MAXPHYADDR is as the user gave it"
    bits = max(
        (
            record.value.bit_length()
            for record in seen.records
            if record.what in (What.WRITE, What.READ, What.HOST_WRITE)
            and vm.has(record)
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
