"""A VM whose MTRR and CR0 writes KVM itself handles, and a trace's events on it, one by one.

``live.vm`` takes every WRMSR to user space; here KVM keeps the MTRRs, finds non-coherent DMA by
the VFIO group that the VM owns, and zaps on its own.
"""

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier, get_native_id
from types import TracebackType
from typing import NamedTuple, Self

from mtrrzap.errors import UserError
from mtrrzap.kernel import abi
from mtrrzap.kernel.guest import BELL, PAGE, PROTECTION, Guest
from mtrrzap.kernel.vfio import Group
from mtrrzap.live import ioctl as k
from mtrrzap.live.host import ioctl
from mtrrzap.live.memory import GuestMemory, fill, lost
from mtrrzap.live.vcpu import BrokenVcpuError, LiveVcpu
from mtrrzap.x86 import cr0

_DEVICE = "/dev/kvm"
_PAGING = cr0.PG | cr0.PE
_APIC = 0xFEE00000
_LAST_XAPIC = 254
_INIT_MESSAGE = 5 << 8 | 1 << 14
"""Delivery mode INIT, level asserted (SDM vol. 3, "Message Data Register Format")."""


class Settings(NamedTuple):
    """The VM of one run."""

    vcpus: int
    maxphyaddr: int = 40
    """Of the guest, in bits."""
    quirk: bool = True
    """KVM_X86_QUIRK_CD_NW_CLEARED."""
    group: int | None = None
    """The VFIO group that the VM owns; None: its DMA is coherent."""
    memory: int = 4 << 20
    """Bytes, in one memslot from 0 on."""
    huge: bool = False
    """2 MiB pages back the memory."""


class Machine:
    """The VM; a context manager. Its methods raise ``UserError`` where KVM or the guest fails."""

    def __init__(self, settings: Settings) -> None:
        """Build it. Raises ``UserError``."""
        self._guest = Guest(settings.memory, settings.vcpus)
        self._vcpus: list[LiveVcpu] = []
        self.coherent = True
        self._stack = ExitStack()
        try:
            self._build(settings)
        except OSError as error:
            self.close()
            raise UserError(
                f"{error.strerror}", place=_DEVICE, mend="is KVM loaded, and may you use it?"
            ) from error
        except BaseException:
            self.close()
            raise

    def _build(self, settings: Settings) -> None:
        kvm = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        self._stack.callback(os.close, kvm)
        vm = self._vm = ioctl(kvm, k.CREATE_VM)
        self._stack.callback(os.close, vm)
        if not settings.quirk:
            self._enable(abi.CAP_DISABLE_QUIRKS2, abi.QUIRK_CD_NW_CLEARED)
        self._enable(abi.CAP_SPLIT_IRQCHIP, 24)  # a local APIC in KVM: it delivers INIT
        if settings.group is not None:
            group = Group(settings.group)
            self._stack.callback(group.close)
            group.attach(vm)
            self.coherent = group.coherent
        self._memory = GuestMemory(settings.memory, huge=settings.huge)
        self._stack.callback(self._memory.close)
        fill(self._memory.view, self._guest.where)
        self._guest.write(self._memory.view)
        # A page that was never written is the zero page, which the guest's first write replaces.
        every = self._memory.view[::PAGE]
        every[:] = bytes(every)
        ioctl(
            vm,
            k.SET_USER_MEMORY_REGION,
            k.MemoryRegion(0, 0, 0, settings.memory, self._memory.address),
        )
        cpuid, self.maxphyaddr = _cpuid(kvm, settings.maxphyaddr)
        size = ioctl(kvm, k.GET_VCPU_MMAP_SIZE)
        for number in range(settings.vcpus):
            self._add(LiveVcpu(vm, number, size), cpuid)
        for vcpu in self._vcpus:
            _announce(vcpu)

    def _enable(self, capability: int, argument: int) -> None:
        cap = k.EnableCap(cap=capability)
        cap.args[0] = argument
        ioctl(self._vm, k.ENABLE_CAP, cap)

    def _add(self, vcpu: LiveVcpu, cpuid: abi.Cpuid) -> None:
        self._vcpus.append(vcpu)
        self._stack.callback(vcpu.close)
        ioctl(vcpu.fileno(), abi.SET_CPUID2, cpuid)
        vcpu.state.valid_regs = k.SYNC_REGS | k.SYNC_SREGS
        self._ready(vcpu, cr0.CD_NW)

    def _ready(self, vcpu: LiveVcpu, cd_nw: int) -> None:
        """Let user space set the registers, these bits of CR0 among them, and wake the vCPU."""
        vcpu.set_registers(*self._guest.registers(vcpu.number, cd_nw))
        ioctl(vcpu.fileno(), abi.SET_MP_STATE, ctypes.c_uint32(abi.MP_STATE_RUNNABLE))

    # -- events

    def perform(self, vcpu: int, kind: str, msr: int = 0, value: int = 0) -> bool:
        """Make one event happen; return whether it was refused. ``kind``: a ``Kind`` by its word.

        ``reset`` is what user space does to CR0 only; ``program.of`` has its MSR writes follow.
        """
        one = self._vcpus[vcpu]
        match kind:
            case "wrmsr":
                return self._run(one, "wrmsr", value & 0xFFFFFFFF, value >> 32, msr)
            case "cr0":
                return self._run(one, "cr0", self._cr0(one, value))
            case "host-wrmsr" | "held-msr":
                message = abi.Msr(nmsrs=1, index=msr, data=value)
                return ioctl(one.fileno(), abi.SET_MSRS, message) != 1
            case "held-cr0" | "reset":
                self._ready(one, cr0.CD_NW if kind == "reset" else value & cr0.CD_NW)
            case "init":
                self._init(one)
        return False

    def _cr0(self, vcpu: LiveVcpu, value: int) -> int:
        """Return a value that is legal exactly if ``value`` is, and keeps the guest's own bits."""
        if value >> 32 or value & _PAGING == cr0.PG:
            return value
        return int(self._guest.registers(vcpu.number, value & cr0.CD_NW)[1].cr0)

    def _run(self, vcpu: LiveVcpu, code: str, rax: int, rdx: int = 0, rcx: int = 0) -> bool:
        state = vcpu.state
        regs = state.regs
        regs.rip, regs.rax, regs.rdx, regs.rcx = self._guest.rip[code], rax, rdx, rcx
        regs.rsp, regs.rflags, regs.rdi = self._guest.where.private[vcpu.number] + 2 * PAGE, 2, 0
        state.dirty_regs = k.SYNC_REGS
        try:
            reason = vcpu.run()
        except BrokenVcpuError as error:
            raise UserError(str(error)) from error
        port = state.exit.io.port
        if reason != k.Exit.IO or port not in (BELL, PROTECTION):
            raise UserError(vcpu.dump(f"unexpected exit {reason}, port {port:#x}"))
        if port == PROTECTION:
            self._ready(vcpu, int(state.sregs.cr0) & cr0.CD_NW)
        return bool(port == PROTECTION)

    def _init(self, vcpu: LiveVcpu) -> None:
        """Send INIT; asking for the state makes KVM take it. CR0's CD and NW are KVM's own."""
        if vcpu.number > _LAST_XAPIC:
            raise UserError(
                f"INIT of vCPU {vcpu.number}: only vCPUs 0 to {_LAST_XAPIC} can be reached",
                mend="take a trace with fewer vCPUs",
            )
        message = abi.Msi(address_lo=_APIC | vcpu.number << 12, data=_INIT_MESSAGE)
        ioctl(self._vm, abi.SIGNAL_MSI, message)
        ioctl(vcpu.fileno(), abi.GET_MP_STATE, ctypes.c_uint32())
        sregs = k.Sregs()
        ioctl(vcpu.fileno(), k.GET_SREGS, sregs)
        if sregs.cr0 & cr0.PE:
            raise UserError(vcpu.dump("INIT did not come"))
        self._ready(vcpu, sregs.cr0 & cr0.CD_NW)

    def touch(self, vcpu: int) -> None:
        """Let the guest read one byte of each page of its memory."""
        self._run(self._vcpus[vcpu], "touch", 0, 0, self._guest.where.memory // PAGE)

    def storm(self, times: int) -> list[int]:
        """Let all vCPUs toggle CR0.CD at once, ``times`` times each, on all CPUs of the host.

        Return the numbers of their threads.
        """
        cpus, together = range(os.cpu_count() or 1), Barrier(len(self._vcpus))

        def toggle(vcpu: LiveVcpu) -> int:
            os.sched_setaffinity(0, cpus)
            together.wait()
            self._run(vcpu, "storm", 0, 0, times)
            return get_native_id()

        for vcpu in self._vcpus:
            self._ready(vcpu, 0)
        with ThreadPoolExecutor(len(self._vcpus)) as pool:
            return list(pool.map(toggle, self._vcpus))

    # -- afterwards

    def registers(self, vcpu: int, msrs: Sequence[int]) -> list[int]:
        """Return CR0's bits CD and NW, then these MSRs as KVM holds them."""
        one = self._vcpus[vcpu]
        sregs = k.Sregs()
        ioctl(one.fileno(), k.GET_SREGS, sregs)
        found = [sregs.cr0 & cr0.CD_NW]
        for msr in msrs:
            message = abi.Msr(nmsrs=1, index=msr)
            ioctl(one.fileno(), abi.GET_MSRS, message)
            found.append(message.data)
        return found

    def lost(self) -> list[str]:
        """Return what is wrong with the guest's memory."""
        where = self._guest.where
        return list(lost(self._memory.view, where, [0] * where.vcpus))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back."""
        self._vcpus.clear()
        self._stack.close()


def _announce(vcpu: LiveVcpu) -> None:
    """Set the local APIC's state: KVM finds a new vCPU's APIC by its ID from then on."""
    lapic = abi.Lapic()
    ioctl(vcpu.fileno(), abi.GET_LAPIC, lapic)
    ioctl(vcpu.fileno(), abi.SET_LAPIC, lapic)


def _cpuid(kvm: int, maxphyaddr: int) -> tuple[abi.Cpuid, int]:
    """Return what KVM supports, with another MAXPHYADDR, and the host's own."""
    host = 0
    cpuid = abi.Cpuid(nent=abi.MAX_CPUID_ENTRIES)
    ioctl(kvm, abi.GET_SUPPORTED_CPUID, cpuid)
    for entry in cpuid.entries[: cpuid.nent]:
        if entry.function == 0x80000008:
            host = entry.eax & 0xFF
            entry.eax = entry.eax & ~0xFF | maxphyaddr
    return cpuid, host
