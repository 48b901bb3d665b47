"""The host: what figures depend on, and calls to the C library that Python has no function for.

None of these calls holds the interpreter's lock.
"""

import ctypes
import os
import platform
import signal
from pathlib import Path
from typing import NamedTuple

from mtrrzap.errors import UserError

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
_MAP_SHARED, _MAP_PRIVATE, _MAP_ANONYMOUS, _MAP_NORESERVE = 0x01, 0x02, 0x20, 0x4000
MADV_HUGEPAGE, MADV_NOHUGEPAGE = 14, 15

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
_libc.mmap.argtypes = [
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
]
_libc.mmap.restype = ctypes.c_void_p
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

KICK = signal.SIGUSR1
"""Blocked in threads that run a vCPU, and unblocked inside KVM_RUN only: see ``Vcpu.kick``."""
OF_MAIN_THREAD = (signal.SIGINT, signal.SIGTERM)
"""Signals that only the main thread gets."""


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def ioctl(fd: int, request: int, argument: object = 0) -> int:
    """Make an ioctl with a number, or a ctypes object by reference. Raises ``OSError``."""
    pointer = argument if isinstance(argument, int) else ctypes.addressof(argument)  # type: ignore[arg-type]
    return _checked(_libc.ioctl(fd, request, pointer))


class Mapping:
    """Bytes of this process's memory, at a page's border, until ``close``."""

    def __init__(self, size: int, *, fd: int | None = None) -> None:
        """Map a descriptor's first bytes, shared; or memory of our own. Raises ``OSError``."""
        self.size = size
        flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE if fd is None else _MAP_SHARED
        address = _libc.mmap(None, size, PROT_READ | PROT_WRITE, flags, -1 if fd is None else fd, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            _checked(-1)
        self.address = int(address)
        self._open = True

    def protect(self, start: int, size: int, protection: int) -> None:
        """Change the protection of a part (bytes, whole pages)."""
        _checked(_libc.mprotect(self.address + start, size, protection))

    def advise(self, start: int, size: int, advice: int) -> None:
        """Advise the kernel on a part."""
        _checked(_libc.madvise(self.address + start, size, advice))

    def view(self) -> memoryview:
        """Return the bytes; not to be used after ``close``."""
        return memoryview((ctypes.c_ubyte * self.size).from_address(self.address)).cast("B")

    def close(self) -> None:
        """Give the memory back. Calling it twice does no harm."""
        if self._open:
            self._open = False
            _checked(_libc.munmap(self.address, self.size))


_MODULES = Path("/sys/module")
SHADOW = "shadow paging"
_TDP = {"kvm_intel": ("ept", "EPT"), "kvm_amd": ("npt", "NPT")}


def available_memory() -> int | None:
    """Return the bytes that the host has without swapping (MemAvailable), if known."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


class Environment(NamedTuple):
    """The host of the process that runs the vCPUs."""

    cores: int
    kernel: str
    second_stage: str
    """``EPT``, ``NPT``, or ``shadow paging`` where neither is on."""


def environment() -> Environment:
    """Return this host's. Raises ``UserError`` where no x86-64 guest can run."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        raise UserError(f"the test guest needs an x86-64 CPU, this host is {machine or 'unknown'}")
    return Environment(len(os.sched_getaffinity(0)), platform.release(), _second_stage())


def _second_stage() -> str:
    for module, (parameter, name) in _TDP.items():
        try:
            value = (_MODULES / module / "parameters" / parameter).read_text(encoding="ascii")
        except OSError:
            continue
        if value.strip() in ("Y", "1"):
            return name
    return SHADOW
