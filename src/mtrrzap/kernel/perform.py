"""A program on a real VM, with probes: what each event made KVM do, as text, and the end state."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.kernel.monitor import Machine, Settings
from mtrrzap.kernel.tracefs import Probes
from mtrrzap.live.host import SHADOW, environment

_DRAIN = 2000
"""Events between two readings of the ring buffer."""
_DRAIN_SLOW = 10

Op = tuple[int, str, int, int]
"""vCPU, the word of a ``Kind``, MSR, value."""


class Task(NamedTuple):
    """One run. All of it can be JSON."""

    name: str
    settings: Settings
    program: Sequence[Op]
    touch: bool = False
    """The event's vCPU reads a byte of each page before the event: all memory is mapped."""
    leaves: bool = False
    visits: bool = False
    installs: bool = False
    """What ``Probes`` is to look at."""
    coherent: bool = False
    """DMA that snoops is expected; otherwise it is an error if there is a VFIO group."""


class Record(NamedTuple):
    """What came of it. All of it can be JSON."""

    trace: str
    """ftrace's lines; ``e N`` marks the begin of event N."""
    refused: str
    """A character for each event: 1 if it was refused, else 0."""
    registers: list[list[int]]
    """For each vCPU CR0's CD and NW, then the values of ``MSRS``."""
    lost: list[str]
    """What is wrong with the guest's memory."""
    kernel: str
    """The release of the kernel that made the zaps."""
    second_stage: str
    """``EPT``, ``NPT`` or ``shadow paging``."""
    maxphyaddr: int
    """Of the host, in bits."""
    coherent: bool
    """Nothing makes the VM's DMA non-coherent: no VFIO group, or one whose snooping is enforced."""


MSRS = (0x2FF, 0x250, 0x258, 0x259, *range(0x268, 0x270), *range(0x200, 0x210), 0x277)
"""Every MTRR, then IA32_PAT."""


def perform(task: Task, progress: Callable[[int], None] = lambda _: None) -> Record:
    """Run it. ``progress`` gets the number of events done. Raises ``UserError``."""
    slow = task.leaves or task.visits or task.installs
    size = 1 << (16 if slow else 13)
    every = _DRAIN_SLOW if slow else _DRAIN
    parts, refused = [], bytearray()
    around = environment()
    with (
        Machine(task.settings) as machine,
        Probes(
            leaves=task.leaves, visits=task.visits, installs=task.installs, buffer_kib=size
        ) as probes,
    ):
        if machine.coherent and task.settings.group is not None and not task.coherent:
            raise UserError(
                "the IOMMU makes this device's DMA snoop, so KVM ignores the guest's memory types",
                place=f"VFIO group {task.settings.group}",
                mend="take a device behind an IOMMU without snoop control",
            )
        if task.settings.group is not None and around.second_stage == SHADOW:
            raise UserError(
                "KVM makes no such zap without two-dimensional paging",
                place=around.second_stage,
                mend="load kvm_intel with ept=1, or kvm_amd with npt=1",
            )
        run, mark = machine.perform, probes.mark
        for number, (vcpu, kind, msr, value) in enumerate(task.program):
            mark(number)
            if task.touch:
                machine.touch(vcpu)
            refused.append(48 + run(vcpu, kind, msr, value))
            if number % every == every - 1:
                parts.append(probes.drain())
                progress(number + 1)
        parts.append(probes.drain())
        registers = [machine.registers(vcpu, MSRS) for vcpu in range(task.settings.vcpus)]
        return Record(
            trace="".join(parts),
            refused=refused.decode(),
            registers=registers,
            lost=machine.lost(),
            kernel=around.kernel,
            second_stage=around.second_stage,
            maxphyaddr=machine.maxphyaddr,
            coherent=machine.coherent,
        )


def task_from(data: dict[str, Any]) -> Task:
    """Return a task that went through JSON as ``_asdict()``."""
    return Task(**{**data, "settings": Settings(**data["settings"])})


class StormTask(NamedTuple):
    """All vCPUs toggle CR0.CD at once. All of it can be JSON."""

    name: str
    settings: Settings
    times: int
    """Toggles of each vCPU."""
    functions: Sequence[str]
    """What a request calls, then other functions of KVM that it goes through."""


class Stormed(NamedTuple):
    """What came of it. All of it can be JSON."""

    buffers: list[str]
    """ftrace's ring buffer of each CPU, in base 64."""
    events: dict[str, int]
    """The types of events in it, by name."""
    threads: list[int]
    """Of the vCPUs, in their order."""
    lost: list[str]
    """What is wrong with the guest's memory."""
    kernel: str


def storm(task: StormTask) -> Stormed:
    """Run it. Raises ``UserError``."""
    requests = task.times * task.settings.vcpus
    # Some 120 bytes a request, and 40 for each other function; vCPUs may share one CPU's buffer.
    size = max(1 << 13, requests * (160 + 80 * len(task.functions)) >> 10)
    with (
        Machine(task.settings) as machine,
        Probes(functions=task.functions, buffer_kib=size) as probes,
    ):
        threads = machine.storm(task.times)
        buffers = [b64encode(each).decode("ascii") for each in probes.raw()]
        return Stormed(buffers, probes.types(), threads, machine.lost(), environment().kernel)
