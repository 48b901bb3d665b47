"""An emulated AMD host with nested paging and a device that does not snoop, for one job.

QEMU's TCG has SVM. The virtual IOMMU is Intel's, without snoop control: KVM finds the VM's DMA
non-coherent by itself once it owns the group of QEMU's ``edu`` device. The whole file system of
this machine is the emulated one's, read-only, so the same Python runs the same code there.
"""

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self

import mtrrzap
from mtrrzap.errors import UserError
from mtrrzap.guest.busybox import Member, cpio, is_static_elf
from mtrrzap.guest.busybox import build as guest_initrd
from mtrrzap.kernel import guests
from mtrrzap.kernel.guests import INITRD, JOB_FOLDER, GuestTask
from mtrrzap.kernel.image import Kernel, modules
from mtrrzap.kernel.inside import DONE
from mtrrzap.kernel.perform import StormTask, Task
from mtrrzap.kernel.tracefs import FUNCTION

_DEVICE = "0000:00:04.0"
_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
_FOLDERS = ("bin", "dev", "proc", "sys", "host", "modules")
_BROKEN = "mtrrzap-broken"
"""The first word of a line on the console; the second is a module that cannot be loaded."""
_TAIL = 3
"""Lines of the console in an error."""
_TICK = 0.2
"""Seconds between two looks at the clock."""

Progress = Callable[[int], None]
"""Called with the number of events done."""


@dataclass(frozen=True, slots=True)
class Host:
    """The emulated host."""

    kernel: Kernel
    own_modules: Path | None = None
    """Modules that replace the kernel's: kvm.ko and kvm-amd.ko, say."""
    snoop_control: bool = False
    """The IOMMU can enforce snooping: no DMA is non-coherent then."""
    qemu: str = "qemu-system-x86_64"
    cpus: int = 1
    """With one, the order of ftrace's lines is certain whatever the clock."""
    memory: int = 768
    """MiB; Linux has huge pages from 512 MiB of usable memory on."""
    preempt: str = "voluntary"
    """The kernel's parameter of this name: Debian's choice, or ``full``."""

    @property
    def types(self) -> bool:
        """Its KVM says the EPT type of each leaf (``ept_types``)."""
        mine = self.own_modules and self.own_modules / "kvm.ko"
        return bool(mine and mine.is_file() and FUNCTION.encode() in mine.read_bytes())

    def with_snoop_control(self) -> "Host":
        """Return the same host, but with DMA that snoops."""
        return replace(self, snoop_control=True)


def _init() -> str:
    """Return the emulated host's /init.

    The package's own ``__init__`` stays out: it may import what needs more than the standard
    library.
    """
    source = Path(mtrrzap.__file__).resolve().parent
    code = (
        "import sys, types; m = types.ModuleType('mtrrzap'); "
        f"m.__path__ = [{str(source)!r}]; sys.modules['mtrrzap'] = m; "
        f"from mtrrzap.kernel.inside import main; main({JOB_FOLDER!r})"
    )
    python = shlex.join([os.path.realpath(sys.executable), "-I", "-S", "-B", "-c", code])
    ninep = "trans=virtio,version=9p2000.L,msize=512000"
    return f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do
    insmod /modules/$module.ko || echo "{_BROKEN} $module"
done
mount -t 9p -o ro,cache=loose,{ninep} root /host
mount -t devtmpfs dev /host/dev
mount -t proc proc /host/proc
mount -t sysfs sys /host/sys
mount -t tracefs trace /host/sys/kernel/tracing
mount -t tmpfs run /host/run
mkdir /host{JOB_FOLDER}
mount -t 9p -o {ninep} job /host{JOB_FOLDER}
chroot /host {python} 2>&1
umount /host{JOB_FOLDER}
poweroff -f
"""


def _initramfs(host: Host, busybox: bytes) -> bytes:
    def entries() -> Iterator[Member]:
        for folder in _FOLDERS:
            yield Member(folder, stat.S_IFDIR | 0o755)
        yield Member("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        yield Member("bin/busybox", stat.S_IFREG | 0o755, busybox)
        yield Member("init", stat.S_IFREG | 0o755, _init().encode())
        order = []
        for name, content in modules(host.kernel, host.own_modules):
            order.append(name)
            yield Member(f"modules/{name}.ko", stat.S_IFREG | 0o644, content)
        yield Member("modules/order", stat.S_IFREG | 0o644, "\n".join(order).encode())

    return cpio(entries())


def _command(host: Host, folder: Path) -> list[str]:
    """Return QEMU's command line."""
    snoop = "on" if host.snoop_control else "off"
    return [
        *(host.qemu, "-accel", "tcg", "-machine", "q35", "-cpu", "EPYC,+svm,+npt"),
        *("-smp", str(host.cpus), "-m", f"{host.memory}M", "-nodefaults", "-no-user-config"),
        *("-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-device", f"intel-iommu,intremap=off,snoop-control={snoop}"),
        *("-device", f"edu,addr={_DEVICE[8:]}"),
        "-virtfs",
        "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
        "-virtfs",
        f"local,path={str(folder).replace(',', ',,')}/job,mount_tag=job,security_model=none",
        *("-kernel", str(host.kernel.image), "-initrd", str(folder / "initramfs")),
        "-append",
        # A busy machine's timer may fail the kernel's test, which is a panic.
        "console=ttyS0 loglevel=3 mitigations=off intel_iommu=on panic=-1 nokaslr no_timer_check "
        f"preempt={host.preempt}",
    ]


def check(host: Host) -> None:
    """Raise ``UserError`` for what is missing on this machine."""
    if shutil.which(host.qemu) is None:
        raise UserError(
            f"no program {host.qemu}", mend="install it (Debian: apt install qemu-system-x86)"
        )
    _busybox()


def _busybox() -> bytes:
    for path in map(Path, _BUSYBOX):
        if path.is_file() and is_static_elf(content := path.read_bytes()):
            return content
    raise UserError(
        "no static busybox", place=_BUSYBOX[0], mend="Debian: apt install busybox-static"
    )


class Job(NamedTuple):
    """What one emulated host is to do."""

    host: Host
    tasks: Sequence[Task]
    guests: Sequence[GuestTask] = ()
    storms: Sequence[StormTask] = ()


def guest_job(host: Host, vcpus: Iterable[int], seconds: float) -> Job:
    """Return a job that boots whole guests, one for each number of vCPUs."""
    image, device = host.kernel.image, _DEVICE[5:]
    tasks = [guests.task(each, image, device, host.qemu, seconds) for each in vcpus]
    return Job(replace(host, memory=host.memory + guests.MIB), (), tasks)


def run(
    jobs: Sequence[Job], *, timeout: float, progress: Progress = lambda _: None
) -> list[dict[str, dict[str, Any]]]:
    """Boot a host for each job, all at once; return each job's results by the tasks' names.

    They are a ``Record``'s fields for a task, and a ``GuestRecord``'s for a guest.

    Raises ``UserError`` after ``timeout`` seconds, and when a task or a host fails. No process and
    no file is left behind, whatever happens.
    """
    for job in jobs:
        check(job.host)
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="mtrrzap-kernel-"))
        booted = [
            stack.enter_context(_Booted(job, Path(name, str(number))))
            for number, job in enumerate(jobs)
        ]
        _follow(booted, monotonic() + timeout, timeout, progress)
        return [each.results() for each in booted]


def _follow(
    booted: Sequence["_Booted"], deadline: float, timeout: float, progress: Progress
) -> None:
    """Read the consoles until all of them end."""
    before = 0
    with DefaultSelector() as selector:
        for each in booted:
            selector.register(each.console, EVENT_READ, each)
        while selector.get_map():
            if monotonic() > deadline:
                tail = " ; ".join(each.tail for each in booted)
                raise UserError(
                    f"not done after {timeout:g} s; the console ends with: {tail}",
                    mend="allow more time, or give fewer events",
                )
            for key, _ in selector.select(_TICK):
                if not key.data.read():
                    selector.unregister(key.fileobj)
            done = sum(each.done for each in booted)
            if done != before:
                progress(before := done)


class _Booted:
    """One QEMU and its folder. A context manager that kills it."""

    def __init__(self, job: Job, folder: Path) -> None:
        """Start it. Raises ``UserError`` for a kernel that lacks a module."""
        self._job, self._folder = job, folder
        (folder / "job").mkdir(parents=True)
        (folder / "initramfs").write_bytes(_initramfs(job.host, _busybox()))
        if job.guests:
            (folder / "job" / INITRD).write_bytes(guest_initrd(_busybox()))
        data = {
            "device": _DEVICE,
            "tasks": [_as_data(task) for task in job.tasks],
            "guests": [task._asdict() for task in job.guests],
            "storms": [_as_data(task) for task in job.storms],
        }
        (folder / "job" / "job.json").write_text(json.dumps(data), encoding="ascii")
        self.done = 0
        self._broken: list[str] = []
        self._rest, self._lines = b"", deque[str](maxlen=_TAIL)
        with (folder / "qemu").open("wb") as errors:
            try:
                self._qemu = subprocess.Popen(
                    _command(job.host, folder),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            except OSError as error:
                raise UserError(f"cannot be run: {error.strerror}", place=job.host.qemu) from error
        assert self._qemu.stdout is not None
        self.console = self._qemu.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._qemu.kill()
        self._qemu.wait()
        self.console.close()

    @property
    def tail(self) -> str:
        """The last lines of the console."""
        return " | ".join(self._lines) or "nothing"

    def read(self) -> bool:
        """Take what the console has; return whether it goes on."""
        part = os.read(self.console.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            words = line.decode("utf-8", "replace").split()
            if words[:1] == [DONE] and len(words) == 2 and words[1].isdecimal():
                self.done = int(words[1])
            elif words[:1] == [_BROKEN]:
                self._broken += words[1:]
            elif words:
                self._lines.append(" ".join(words))
        return bool(part)

    def results(self) -> dict[str, dict[str, Any]]:
        """Return what came of each task and guest. Raises ``UserError``."""
        if status := self._qemu.wait():
            said = (self._folder / "qemu").read_text("utf-8", "replace").strip().splitlines()
            why = " | ".join(said[-_TAIL:]) or "without a message"
            raise UserError(f"ended with status {status}: {why}", place=self._job.host.qemu)
        if self._broken:
            raise UserError(
                f"the emulated host cannot load {', '.join(self._broken)}",
                place=self._job.host.kernel.release,
                mend="build modules against exactly this kernel",
            )
        names = [task.name for task in self._job.tasks]
        names += [guest.name for guest in self._job.guests]
        names += [storm.name for storm in self._job.storms]
        return {name: self._result(name) for name in names}

    def _result(self, name: str) -> dict[str, Any]:
        path = self._folder / "job" / f"{name}.json"
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"the emulated host gave no result; its console ends with: {self.tail}", place=name
            ) from error
        if "error" in data:
            raise UserError(data["error"], place=f"emulated host, {name}")
        return data


def _as_data(task: Task | StormTask) -> dict[str, object]:
    return task._asdict() | {"settings": task.settings._asdict()}
