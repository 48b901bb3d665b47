"""One vCPU: its registers, its KVM_RUN, how another thread ends that, and KVM's counters."""

import ctypes
import errno
import os
import signal
import struct
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from time import sleep

from mtrrzap.live import host
from mtrrzap.live import ioctl as k

VCPU_STATISTICS = ("pf_fixed", "exits")
_RETRIES = 1000
"""Calls of KVM_RUN in a row without an exit, after which the vCPU counts as stuck."""


class KickedError(Exception):
    """Another thread wants this vCPU to stop."""


class BrokenVcpuError(Exception):
    """The vCPU cannot go on; the message has its registers."""


class Statistics:
    """Some of KVM's binary statistics of a VM or vCPU. Owns a descriptor until ``close``."""

    def __init__(self, owner: int, names: Iterable[str]) -> None:
        """``owner`` is the descriptor of the VM or vCPU; names that it lacks are left out.

        Raises ``OSError``, also for a KVM without them (before v5.14).
        """
        wanted = frozenset(names)
        self._offsets: dict[str, int] = {}
        with ExitStack() as owned:
            self._fd = host.ioctl(owner, k.GET_STATS_FD)
            owned.callback(os.close, self._fd)
            header = k.StatsHeader.from_buffer_copy(self._read(0, ctypes.sizeof(k.StatsHeader)))
            size = ctypes.sizeof(k.StatsDescriptor) + header.name_size
            block = self._read(header.desc_offset, size * header.num_desc)
            for at in range(0, len(block), size):
                about = k.StatsDescriptor.from_buffer_copy(block, at)
                raw = block[at + ctypes.sizeof(k.StatsDescriptor) : at + size]
                name = raw.split(b"\0", 1)[0].decode("ascii", "replace")
                if name in wanted:
                    self._offsets[name] = header.data_offset + about.offset
            self._owned = owned.pop_all()

    def _read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def read(self) -> dict[str, int]:
        """Return the counters as they are now."""
        return {
            name: int(struct.unpack("<Q", self._read(offset, 8))[0])
            for name, offset in self._offsets.items()
        }

    def close(self) -> None:
        """Close the descriptor."""
        self._owned.close()


class LiveVcpu:
    """A vCPU of a VM. Its thread calls ``prepare`` and ``run``; any thread may ``kick``."""

    def __init__(self, vm: int, number: int, run_size: int) -> None:
        """Create it. Raises ``OSError``."""
        self.number = number
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._kicked = False
        with ExitStack() as owned:
            self._fd = host.ioctl(vm, k.CREATE_VCPU, number)
            owned.callback(os.close, self._fd)
            self._run: host.Mapping | None = host.Mapping(run_size, fd=self._fd)
            owned.callback(self._run.close)
            self.state = k.KvmRun.from_address(self._run.address)
            self._stats = Statistics(self._fd, VCPU_STATISTICS)
            owned.callback(self._stats.close)
            self._owned = owned.pop_all()

    def fileno(self) -> int:
        """Return its descriptor, for ioctls that are not here."""
        return self._fd

    def set_registers(self, regs: k.Regs, sregs: k.Sregs) -> None:
        """Set the registers, but keep the APIC base that the vCPU starts with."""
        old = k.Sregs()
        host.ioctl(self._fd, k.GET_SREGS, old)
        sregs.apic_base = old.apic_base
        host.ioctl(self._fd, k.SET_SREGS, sregs)
        host.ioctl(self._fd, k.SET_REGS, regs)

    def prepare(self) -> None:
        """Make this thread the vCPU's; the signal that kicks it is blocked outside of KVM_RUN."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {host.KICK, *host.OF_MAIN_THREAD})
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        mask = k.SignalMask(8, sum(1 << number - 1 for number in blocked - {host.KICK}))
        host.ioctl(self._fd, k.SET_SIGNAL_MASK, mask)
        self.state.valid_regs = k.SYNC_REGS | k.SYNC_SREGS
        with self._lock:
            self._thread = threading.get_ident()

    def release(self) -> None:
        """End the thread's part: no kick reaches it any more."""
        with self._lock:
            self._thread = None

    def kick(self) -> None:
        """Make ``run`` raise ``KickedError``, now or the next time.

        ``immediate_exit`` is for a thread that is about to enter, the signal for one inside.
        Nothing handles the signal: KVM_RUN ends because it is pending, and it stays pending.
        """
        with self._lock:
            self._kicked = True
            if self._run is not None:
                self.state.immediate_exit = 1
            if self._thread is not None:
                signal.pthread_kill(self._thread, host.KICK)

    def run(self) -> int:
        """Run the guest to its next exit and return the reason.

        Raises ``KickedError``, and ``BrokenVcpuError`` for an exit that ends any guest.
        """
        for attempt in range(_RETRIES):
            if self._kicked:
                raise KickedError
            try:
                host.ioctl(self._fd, k.RUN)
            except OSError as error:
                if error.errno not in (errno.EINTR, errno.EAGAIN, errno.EFAULT):
                    raise BrokenVcpuError(self.dump(f"KVM_RUN: {error.strerror}")) from error
                if error.errno == errno.EFAULT:
                    sleep(attempt * 1e-6)
                last = error
                continue
            return self._judged(int(self.state.exit_reason))
        raise BrokenVcpuError(
            self.dump(f"KVM_RUN failed {_RETRIES} times: {last.strerror}")
        ) from last

    def _judged(self, reason: int) -> int:
        if reason in (k.Exit.IO, k.Exit.HLT, k.Exit.X86_RDMSR, k.Exit.X86_WRMSR):
            return reason
        name = k.Exit(reason).name if reason in {*k.Exit} else "unknown"
        detail = ""
        if reason == k.Exit.INTERNAL_ERROR:
            internal = self.state.exit.internal
            words = " ".join(f"{word:#x}" for word in internal.data[: min(internal.ndata, 16)])
            detail = f" (suberror {internal.suberror}: {words})"
        raise BrokenVcpuError(self.dump(f"exit {reason}, {name}{detail}"))

    def dump(self, what: str) -> str:
        """Return one line: what happened, and the registers."""
        regs, sregs = k.Regs(), k.Sregs()
        try:
            host.ioctl(self._fd, k.GET_REGS, regs)
            host.ioctl(self._fd, k.GET_SREGS, sregs)
        except OSError as error:
            return f"vCPU {self.number}: {what}; registers cannot be read: {error.strerror}"
        named = [(name, getattr(regs, name)) for name in k.REGISTERS]
        named += [(name, getattr(sregs, name)) for name in ("cr0", "cr2", "cr3", "cr4", "efer")]
        shown = " ".join(f"{name}={value:#x}" for name, value in named)
        return f"vCPU {self.number}: {what}; {shown} cs={sregs.cs.selector:#x}"

    def statistics(self) -> dict[str, int]:
        """Return KVM's counters of this vCPU."""
        return self._stats.read()

    def close(self) -> None:
        """Close its descriptors and mapping. Its thread must have ended."""
        with self._lock:  # a kick writes to the mapping
            self._run = None
            self._owned.close()
