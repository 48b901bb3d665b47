"""What an import keeps of a capture: records of threads, and which vCPU of which VM a thread is.

No event names its VM. A VM is a process where the capture names processes (ftrace's
``record-tgid``, perf's ``-F +pid``). Elsewhere the import guesses: QEMU starts its vCPU threads in
order, so a thread of vCPU n belongs to the VM whose vCPU below n was started last before it. The
guess can mix up VMs that were started at the same instant.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum, auto

from mtrrzap.guest.importer.event_text import THREADLESS, vcpu_of_name

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
    CREATED = auto()
    """kvm_vcpu_reset of a new vCPU."""
    HOST_WRITE = auto()
    """KVM_SET_MSRS: as ``WRITE``, by user space."""
    SREGS = auto()
    """KVM_SET_SREGS set CR0 to ``value``."""
    ZAP = auto()
    """kvm_zap_gfn_range; the record is a ``ZapRecord``."""
    DMA = auto()
    """A device with non-coherent DMA came (``number`` is 1) or went (0)."""


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
    """From the exit that the write caused to the next entry; of a zap, from call to return."""
    probed: bool = False
    """A kprobe's, whose arguments name the vCPU."""


@dataclass(slots=True)
class ZapRecord(Record):
    """A call of kvm_zap_gfn_range for the gfns from ``number`` to ``value`` (exclusive)."""

    cause: Record | None = None
    """The write that asked for it."""
    leaves: int = 0
    """Leaf entries seen to be cleared."""
    caller: bytes = b""


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
    host: bool | None = None
    """kvm_set_msr_common was last called for user space, not for the guest."""
    setting: Record | None = None
    """The write whose kvm_mtrr_set_msr has not returned yet."""
    told: Record | None = None
    """The guest's last write by a kprobe: its kvm_msr comes later."""
    cr0_told: int | None = None
    """The last value that a kvm_cr showed: its kvm_post_set_cr0 comes later."""
    cr0_write: Record | None = None
    """The last CR0 write that was kept, until the thread does something else."""
    zap: ZapRecord | None = None
    """The zap that has not returned yet."""
    early: ZapRecord | None = None
    """A zap whose write is told by the kvm_msr that follows."""

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
    probes: set[bytes] = field(default_factory=set)
    """KVM's functions that kprobes saw."""
    leaves_told: bool = False
    """Some kvm_tdp_mmu_spte_changed was seen."""
    losses: list[str] = field(default_factory=list)
    """Why the capture is not whole."""
    start_lost: bool = False
    """The oldest events are gone, so the capture does not begin where it seems to."""


BY_NAME = "by the thread's name"
BY_ENTRY = "by the vCPU number of the kvm_entry or kvm_exit nearest on the thread"
BY_CPU = "by the host's CPU, which is right only if no thread moved to another CPU"
BY_ORDER = "by the order in which the threads appear, one vCPU a thread"


@dataclass(slots=True)
class CapturedVm:
    """The vCPU threads of one virtual machine."""

    number: int = 0
    process: int | None = None
    """Thread-group id, if the capture has it."""
    vcpus: dict[int, int] = field(default_factory=dict)
    """Thread id -> vCPU."""
    how: Counter[str] = field(default_factory=Counter)
    """How many threads were attributed by which rule."""
    helpers: set[int] = field(default_factory=set)
    """Threads of user space that act for vCPUs, and are none."""
    size: int = 0
    """The highest vCPU number, plus 1."""

    def vcpu(self, record: Record) -> int:
        """Return the vCPU of a record of one of the threads."""
        if record.probed and record.vcpu is not None:
            return record.vcpu
        return self.vcpus.get(record.tid, 0)

    def has(self, record: Record) -> bool:
        """Tell if a record is of this VM."""
        return record.tid in self.vcpus or record.tid in self.helpers

    def attribution(self) -> str:
        """Say how the threads were attributed."""
        if len(self.how) == 1:
            return next(iter(self.how))
        return ", ".join(f"{count} {rule}" for rule, count in self.how.items())


def vms(seen: Seen) -> list[CapturedVm]:
    """Return the VMs of a capture in the order of their first events."""
    first: dict[int, int] = {}
    for position, record in enumerate(seen.records):
        first.setdefault(record.tid, position)
    guests = {record.tid for record in seen.records if record.what not in _BY_USER_SPACE}
    every = [seen.threads[tid] for tid in first]
    threads = [t for t in every if t.tid in guests or _number(t) is not None]
    found: list[CapturedVm] = []
    processes: dict[int, CapturedVm] = {}
    named = [(thread, number) for thread in threads if (number := _number(thread)) is not None]
    for thread, number in sorted(named, key=lambda pair: pair[0].tid):
        _add(_home(thread, number, found, processes), thread, number)
    for thread in threads:
        if _number(thread) is None:
            _add_in_order(thread, found, processes)
    guests = {thread.tid for thread in threads}
    _add_helpers([t for t in every if t.tid not in guests], found, processes)
    _set_sizes(found, seen.records)
    found.sort(key=lambda vm: min(first[tid] for tid in (*vm.vcpus, *vm.helpers)))
    for position, vm in enumerate(found):
        vm.number = position
    return found


_BY_USER_SPACE = (What.HOST_WRITE, What.SREGS, What.CREATED, What.DMA)


def _add_helpers(
    threads: list[Thread], found: list[CapturedVm], processes: dict[int, CapturedVm]
) -> None:
    """Add threads to the VM of their process, or to the one whose vCPUs were started next."""
    started = sorted((min(vm.vcpus), number) for number, vm in enumerate(found))
    for thread in threads:
        vm = _process(thread, found, processes)
        if vm is None and not found:
            found.append(CapturedVm())
        if vm is None:
            next_ = bisect_right(started, (thread.tid, len(found)))
            vm = found[started[next_][1]] if next_ < len(started) else found[-1]
        vm.helpers.add(thread.tid)


def _set_sizes(found: list[CapturedVm], records: list[Record]) -> None:
    homes = {tid: vm for vm in found for tid in (*vm.vcpus, *vm.helpers)}
    for vm in found:
        vm.size = max(vm.vcpus.values(), default=0) + 1
    for record in records:
        if record.probed and record.vcpu is not None:
            home = homes[record.tid]
            home.size = max(home.size, record.vcpu + 1)


def _number(thread: Thread) -> int | None:
    by_name = vcpu_of_name(thread.name)
    return thread.vcpu if by_name is None else by_name


def _process(
    thread: Thread, found: list[CapturedVm], processes: dict[int, CapturedVm]
) -> CapturedVm | None:
    if thread.tgid is None:
        return None
    if thread.tgid not in processes:
        processes[thread.tgid] = CapturedVm(process=thread.tgid)
        found.append(processes[thread.tgid])
    return processes[thread.tgid]


def _home(
    thread: Thread, number: int, found: list[CapturedVm], processes: dict[int, CapturedVm]
) -> CapturedVm:
    """Return the VM of a thread; threads come in ascending order of their ids."""
    if (process := _process(thread, found, processes)) is not None:
        return process
    open_to = [
        (next(reversed(vm.vcpus.values())), next(reversed(vm.vcpus)), vm)
        for vm in found
        if vm.process is None
    ]
    below = [item[1:] for item in open_to if item[0] < number]
    if below:
        return max(below, key=lambda item: item[0])[1]
    found.append(CapturedVm())
    return found[-1]


def _add(vm: CapturedVm, thread: Thread, number: int) -> None:
    vm.vcpus[thread.tid] = number
    vm.how[BY_ENTRY if vcpu_of_name(thread.name) is None else BY_NAME] += 1


def _add_in_order(
    thread: Thread, found: list[CapturedVm], processes: dict[int, CapturedVm]
) -> None:
    vm = _process(thread, found, processes)
    if vm is None:
        vm = next((vm for vm in reversed(found) if vm.process is None), None)
    if vm is None:
        vm = CapturedVm()
        found.append(vm)
    taken = set(vm.vcpus.values())
    vm.vcpus[thread.tid] = next(n for n in range(len(taken) + 1) if n not in taken)
    vm.how[BY_CPU if THREADLESS < thread.tid < 0 else BY_ORDER] += 1
