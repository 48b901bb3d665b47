"""The virtual machine on /dev/kvm: one memslot, no in-kernel irqchip, MSRs handled here."""

import ctypes
import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mtrrzap.errors import UserError
from mtrrzap.live import guest, host
from mtrrzap.live import ioctl as k
from mtrrzap.live import memory as m
from mtrrzap.live.tally import Counters
from mtrrzap.live.target import Target
from mtrrzap.live.vcpu import LiveVcpu, Statistics

DEVICE = Path("/dev/kvm")
_NEEDS = {
    k.CAP_SYNC_REGS: "KVM_CAP_SYNC_REGS (v4.17)",
    k.CAP_IMMEDIATE_EXIT: "KVM_CAP_IMMEDIATE_EXIT (v4.12)",
    k.CAP_X86_USER_SPACE_MSR: "KVM_CAP_X86_USER_SPACE_MSR (v5.10)",
    k.CAP_BINARY_STATS_FD: "KVM_CAP_BINARY_STATS_FD (v5.14)",
}
_VM_STATISTICS = ("pages_4k", "pages_2m", "remote_tlb_flush_requests")
_TSS_ADDRESS = 0xFFFBD000
"""Below 4 GiB, for VMX hosts that cannot run real mode themselves; not set where memory is."""


class LiveVm(Target):
    """A VM with its memory filled and its vCPUs ready, until ``close``."""

    def __init__(
        self,
        where: guest.Layout,
        tables: Sequence[Sequence[guest.TableEntry]],
        cd_nw: Sequence[int],
        *,
        huge: bool = False,
    ) -> None:
        """Build it. ``cd_nw``: the bits of CR0 that each vCPU starts with.

        Raises ``UserError`` where KVM is missing, forbidden or too old, or the host too small.
        """
        self.where = where
        self.frames = where.memory // guest.PAGE
        self.vcpus: list[LiveVcpu] = []
        self._owned = ExitStack()
        self._refuse_more_memory()
        try:
            self._build(tables, cd_nw, huge=huge)
        except OSError as error:
            self.close()
            raise _explained(error) from error
        except BaseException:
            self.close()
            raise

    def _build(
        self, tables: Sequence[Sequence[guest.TableEntry]], cd_nw: Sequence[int], *, huge: bool
    ) -> None:
        kvm = self._open()
        vm = host.ioctl(kvm, k.CREATE_VM)
        self._owned.callback(os.close, vm)
        self._refuse_more_vcpus(vm)
        self.memory = m.GuestMemory(self.where.memory, huge=huge)
        self._owned.callback(self.memory.close)
        m.fill(self.memory.view, self.where)
        guest.write(self.memory.view, self.where, tables)
        self._connect(vm)
        self._stats = Statistics(vm, _VM_STATISTICS)
        self._owned.callback(self._stats.close)
        size = host.ioctl(kvm, k.GET_VCPU_MMAP_SIZE)
        for number, bits in enumerate(cd_nw):
            vcpu = LiveVcpu(vm, number, size)
            self._owned.callback(vcpu.close)
            self.vcpus.append(vcpu)
            vcpu.set_registers(*guest.registers(self.where, number, bits))

    def _open(self) -> int:
        kvm = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        self._owned.callback(os.close, kvm)
        try:
            version = host.ioctl(kvm, k.GET_API_VERSION)
        except OSError as error:
            raise UserError("is not KVM", place=str(DEVICE), mend=_INSTEAD) from error
        missing = [
            what
            for number, what in _NEEDS.items()
            if not host.ioctl(kvm, k.CHECK_EXTENSION, number)
        ]
        if version != k.API_VERSION or missing:
            what = ", ".join(missing) or f"API version {k.API_VERSION}"
            raise UserError(f"this KVM lacks {what}", place=str(DEVICE), mend=_INSTEAD)
        return kvm

    def _refuse_more_memory(self) -> None:
        available = host.available_memory()
        if available is not None and self.where.memory > available:
            raise UserError(
                f"the host has {available >> 20} MiB available, and the guest uses all of its own",
                place="memory",
                mend="give less",
            )

    def _refuse_more_vcpus(self, vm: int) -> None:
        most = host.ioctl(vm, k.CHECK_EXTENSION, k.CAP_MAX_VCPUS)
        if self.where.vcpus > most:
            raise UserError(f"this KVM runs at most {most} vCPUs", place="vcpus")

    def _connect(self, vm: int) -> None:
        """Give the VM its memory, and make all accesses to MSRs exit to user space."""
        if self.where.memory < _TSS_ADDRESS:
            host.ioctl(vm, k.SET_TSS_ADDR, _TSS_ADDRESS)
            below = ctypes.c_uint64(_TSS_ADDRESS - guest.PAGE)
            host.ioctl(vm, k.SET_IDENTITY_MAP_ADDR, below)
        region = k.MemoryRegion(0, 0, 0, self.where.memory, self.memory.address)
        host.ioctl(vm, k.SET_USER_MEMORY_REGION, region)
        cap = k.EnableCap(cap=k.CAP_X86_USER_SPACE_MSR)
        cap.args[0] = k.MSR_EXIT_REASONS
        host.ioctl(vm, k.ENABLE_CAP, cap)
        bitmap = (ctypes.c_uint8 * 32)()  # 256 MSRs from 0x200 on; all others are denied anyway
        denied = k.MsrFilter(flags=k.MSR_FILTER_DEFAULT_DENY)
        denied.ranges[0].flags = k.MSR_FILTER_READ_WRITE
        denied.ranges[0].nmsrs = 8 * len(bitmap)
        denied.ranges[0].base = 0x200
        denied.ranges[0].bitmap = ctypes.addressof(bitmap)
        host.ioctl(vm, k.X86_SET_MSR_FILTER, denied)

    def enter(self, vcpu: int) -> None:
        """Make the calling thread a vCPU's."""
        self.vcpus[vcpu].prepare()

    def leave(self, vcpu: int) -> None:
        """Let the calling thread go: no kick reaches it any more."""
        self.vcpus[vcpu].release()

    def zap(self, start: int, end: int) -> None:
        """Make KVM drop its entries of the frames ``[start, end)``."""
        self.memory.zap(start, end)

    def kick(self) -> None:
        """Get every vCPU out of KVM_RUN, for good."""
        for vcpu in self.vcpus:
            vcpu.kick()

    def counters(self) -> Counters:
        """Return KVM's statistics as they are now."""
        vm = self._stats.read()
        faults = sum(vcpu.statistics().get("pf_fixed", 0) for vcpu in self.vcpus)
        small, large = vm.get("pages_4k", 0), vm.get("pages_2m", 0)
        return Counters(faults, small + large, large, vm.get("remote_tlb_flush_requests", 0))

    def close(self) -> None:
        """Close every descriptor and free the memory."""
        self._owned.close()


_INSTEAD = "use the threads engine"


def _explained(error: OSError) -> UserError:
    match error.errno:
        case errno.ENOENT | errno.ENXIO | errno.ENODEV:
            return UserError(
                "there is no KVM on this machine", place=str(DEVICE), mend=f"load it, or {_INSTEAD}"
            )
        case errno.EACCES | errno.EPERM:
            return UserError(
                f"{error.strerror}", place=str(DEVICE), mend=f"join its group (kvm), or {_INSTEAD}"
            )
        case errno.EMFILE | errno.ENFILE:
            return UserError(
                "too many open files: the monitor needs 3, and 2 for each vCPU",
                place="ulimit -n",
                mend="raise it, or give fewer vCPUs",
            )
        case errno.ENOMEM:
            return UserError("the host lacks the memory for that", place="memory", mend="give less")
    return UserError(f"{error.strerror}", place=str(DEVICE), mend=_INSTEAD)
