"""Which vCPU of which VM a thread is. The events themselves say neither.

A VM is a process where the capture names processes (ftrace's ``record-tgid``, perf's ``-F +pid``).
Elsewhere it is guessed: QEMU starts its vCPU threads in order, so a thread of vCPU n belongs to the
VM whose vCPU below n was started last before it. VMs that were started at the same instant can be
mixed up by that.
"""

from collections import Counter
from dataclasses import dataclass, field

from mtrrzap.guest.importer.line import vcpu_of_name
from mtrrzap.guest.importer.records import Record, Seen, Thread

BY_NAME = "by the thread's name"
BY_ENTRY = "by the vCPU number of the kvm_entry or kvm_exit nearest on the thread"
BY_ORDER = "by the order in which the threads appear, one vCPU a thread"


@dataclass(slots=True)
class Vm:
    """The vCPU threads of one virtual machine."""

    number: int = 0
    process: int | None = None
    """Thread-group id, if the capture has it."""
    vcpus: dict[int, int] = field(default_factory=dict)
    """Thread id -> vCPU."""
    how: Counter[str] = field(default_factory=Counter)
    """How many threads were attributed by which rule."""

    @property
    def size(self) -> int:
        """The highest vCPU number, plus 1."""
        return max(self.vcpus.values()) + 1

    def vcpu(self, record: Record) -> int:
        """Return the vCPU of a record of one of the threads."""
        return self.vcpus[record.tid]

    def attribution(self) -> str:
        """Say how the threads were attributed."""
        if len(self.how) == 1:
            return next(iter(self.how))
        return ", ".join(f"{count} {rule}" for rule, count in self.how.items())


def vms(seen: Seen) -> list[Vm]:
    """Return the VMs of a capture in the order of their first events."""
    first: dict[int, int] = {}
    for position, record in enumerate(seen.records):
        first.setdefault(record.tid, position)
    threads = [seen.threads[tid] for tid in first]
    found: list[Vm] = []
    processes: dict[int, Vm] = {}
    named = [(thread, number) for thread in threads if (number := _number(thread)) is not None]
    for thread, number in sorted(named, key=lambda pair: pair[0].tid):
        _add(_home(thread, number, found, processes), thread, number)
    for thread in threads:
        if _number(thread) is None:
            _add_in_order(thread, found, processes)
    found.sort(key=lambda vm: min(first[tid] for tid in vm.vcpus))
    for position, vm in enumerate(found):
        vm.number = position
    return found


def _number(thread: Thread) -> int | None:
    by_name = vcpu_of_name(thread.name)
    return thread.vcpu if by_name is None else by_name


def _process(thread: Thread, found: list[Vm], processes: dict[int, Vm]) -> Vm | None:
    if thread.tgid is None:
        return None
    if thread.tgid not in processes:
        processes[thread.tgid] = Vm(process=thread.tgid)
        found.append(processes[thread.tgid])
    return processes[thread.tgid]


def _home(thread: Thread, number: int, found: list[Vm], processes: dict[int, Vm]) -> Vm:
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
    found.append(Vm())
    return found[-1]


def _add(vm: Vm, thread: Thread, number: int) -> None:
    vm.vcpus[thread.tid] = number
    vm.how[BY_ENTRY if vcpu_of_name(thread.name) is None else BY_NAME] += 1


def _add_in_order(thread: Thread, found: list[Vm], processes: dict[int, Vm]) -> None:
    vm = _process(thread, found, processes)
    if vm is None:
        vm = next((vm for vm in reversed(found) if vm.process is None), None)
    if vm is None:
        vm = Vm()
        found.append(vm)
    taken = set(vm.vcpus.values())
    vm.vcpus[thread.tid] = next(n for n in range(len(taken) + 1) if n not in taken)
    vm.how[BY_ORDER] += 1
