"""A whole guest that QEMU boots in the emulated host: what KVM was asked, and what it zapped.

kprobes say which MSRs and CR0 were written, and by whom, and which calls came of it. The vCPU is
told by the thread's name, ``CPU 0/KVM``.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.guest.busybox import END
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Header, Trace
from mtrrzap.kernel.calls import Call

JOB_FOLDER = "/run/mtrrzap"
"""Where the emulated host has the job's folder."""
INITRD = "initrd.gz"
MIB = 256
_MAXPHYADDR = 40
_LINE = re.compile(r"^ *(.+)-(\d+) +\[\d+\] \S+ +(\d+)\.(\d+): (\w+): (.*)")
_VCPU = re.compile(r"CPU (\d+)/")


class GuestTask(NamedTuple):
    """One boot, or another command for the emulated host. All of it can be JSON."""

    name: str
    command: list[str]
    """``GROUP`` in it stands for the number of the device's VFIO group."""
    seconds: float
    asked: bool = True
    """Look at what KVM is asked and does meanwhile."""


class GuestRecord(NamedTuple):
    """What came of it."""

    trace: str
    status: int
    """Of QEMU."""
    output: str
    """Of QEMU and the guest's serial port."""
    kernel: str
    second_stage: str


def task(vcpus: int, kernel: Path, device: str, qemu: str, seconds: float) -> GuestTask:
    """Return the boot of SeaBIOS and this kernel.

    OVMF cannot boot there: its first interrupt that comes inside another one's handler ends QEMU
    7.2's TCG (docs/kernel.md).
    """
    command = [
        *(shutil.which(qemu) or qemu, "-name", "guest,debug-threads=on", "-accel", "kvm"),
        *("-cpu", "qemu64,+fsgsbase", "-smp", str(vcpus), "-m", f"{MIB}M", "-nodefaults"),
        *("-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(kernel.resolve()), "-initrd", f"{JOB_FOLDER}/{INITRD}"),
        *("-append", "console=ttyS0 nokaslr quiet", "-device", f"vfio-pci,host={device}"),
    ]
    return GuestTask(name(vcpus), command, seconds)


def name(vcpus: int) -> str:
    """Return the name of a boot's task."""
    return f"guest-seabios-{vcpus}"


class Seen(NamedTuple):
    """A boot as a trace, with the kernel's calls and refusals."""

    trace: Trace
    calls: list[Call]
    refused: str


def seen(record: GuestRecord, vcpus: int) -> Seen:
    """Return the events and calls of a boot. Raises ``UserError`` if the guest did not end."""
    if record.status or END not in record.output:
        said = record.output.strip().splitlines()[-1:] or ["nothing"]
        raise UserError(
            f"the guest did not boot to its end; QEMU ended with status {record.status} and said: "
            f"{said[0]}"
        )
    reader = _Reader()
    for line in record.trace.splitlines():
        if match := _LINE.match(line):
            reader.take(*match.groups())
    header = Header(
        firmware="unknown",
        guest_kernel=f"Linux {record.kernel}",
        vcpus=vcpus,
        memory=MIB << 20,
        maxphyaddr=_MAXPHYADDR,
        machine="QEMU on KVM",
        recorder=f"kprobes on Linux {record.kernel}",
        date="unknown",
        command="mtrrzap kernel compare",
        host_writes="recorded",
    )
    refused = "".join("01"[flag] for flag in reader.refused)
    return Seen(Trace(header, tuple(reader.events)), reader.calls, refused)


class _Reader:
    """Puts the lines of all threads together, each zap to the event of its own thread."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.refused: list[bool] = []
        self.calls: list[Call] = []
        self._host: dict[str, bool] = {}
        self._current: dict[str, int] = {}
        """The event that a thread is at, by its number."""
        self._begun: dict[str, tuple[Call, int]] = {}

    def take(self, name: str, thread: str, seconds: str, part: str, event: str, text: str) -> None:
        """Read one line."""
        words = dict(word.split("=", 1) for word in text.split() if "=" in word)
        now = int(seconds) * 1_000_000 + int(part)
        vcpu = _VCPU.match(name)
        match event:
            case "msr":
                self._host[thread] = words["host"] == "1"
            case "written":
                self.refused[self._current[thread]] = words["ret"] != "0"
            case "zap":
                by = words["by"].partition("+")[0]
                at = self._current.get(thread, -1)
                call = Call(at, int(words["start"], 16), int(words["end"], 16), by, 0.0)
                self._begun[thread] = (call, now)
            case "zapped" if thread in self._begun:
                call, begin = self._begun.pop(thread)
                self.calls.append(call._replace(seconds=(now - begin) / 1e6))
            case "mtrr" | "cr0" | "reset" | "sregs" if vcpu is not None:
                for made in self._event(event, int(vcpu[1]), thread, words):
                    self._current[thread] = len(self.events)
                    self.events.append(made)
                    self.refused.append(False)

    def _event(self, what: str, vcpu: int, thread: str, words: dict[str, str]) -> Iterator[Event]:
        match what:
            case "mtrr":
                kind = Kind.HOST_WRMSR if self._host.get(thread) else Kind.WRMSR
                yield Event(vcpu, kind, int(words["msr"], 16), int(words["data"], 16))
            case "cr0":
                yield Event(vcpu, Kind.CR0, 0, int(words["new"], 16))
            case "reset":
                yield Event(vcpu, Kind.INIT if words["init"] != "0" else Kind.RESET)
            case "sregs":
                yield Event(vcpu, Kind.HELD_CR0, 0, int(words["cr0"], 16))
