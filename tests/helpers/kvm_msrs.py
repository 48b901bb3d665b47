"""The MSRs of a real KVM vCPU through plain ioctls; an oracle for the model, not part of it.

Structures and numbers: Documentation/virt/kvm/api.rst, "KVM_SET_MSRS", "KVM_SET_CPUID2".
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_CREATE_VM = 0xAE01
_CREATE_VCPU = 0xAE41
_GET_SUPPORTED_CPUID = 0xC008AE05
_SET_CPUID2 = 0x4008AE90
_GET_MSRS = 0xC008AE88
_SET_MSRS = 0x4008AE89

_ADDRESS_SIZES = 0x80000008


class KvmVcpu:
    """One vCPU that never runs."""

    def __init__(self, kvm: int, vcpu: int) -> None:
        self._kvm = kvm
        self._vcpu = vcpu

    def set_maxphyaddr(self, bits: int) -> None:
        """Give the guest this MAXPHYADDR (CPUID 0x80000008.EAX[7:0])."""
        room = 256
        cpuid = bytearray(struct.pack("<II", room, 0) + bytes(40 * room))
        fcntl.ioctl(self._kvm, _GET_SUPPORTED_CPUID, cpuid)
        (count,) = struct.unpack_from("<I", cpuid)
        for entry in range(count):
            offset = 8 + 40 * entry
            (leaf,) = struct.unpack_from("<I", cpuid, offset)
            if leaf == _ADDRESS_SIZES:
                (eax,) = struct.unpack_from("<I", cpuid, offset + 12)
                struct.pack_into("<I", cpuid, offset + 12, eax & ~0xFF | bits)
        fcntl.ioctl(self._vcpu, _SET_CPUID2, cpuid)

    def write(self, msr: int, value: int) -> bool:
        """Write an MSR; tell if KVM accepted it."""
        data = bytearray(struct.pack("<IIIIQ", 1, 0, msr, 0, value))
        return fcntl.ioctl(self._vcpu, _SET_MSRS, data) == 1

    def read(self, msr: int) -> int | None:
        """Read an MSR; None if KVM refuses."""
        data = bytearray(struct.pack("<IIIIQ", 1, 0, msr, 0, 0))
        if fcntl.ioctl(self._vcpu, _GET_MSRS, data) != 1:
            return None
        (value,) = struct.unpack_from("<Q", data, 16)
        return int(value)


@contextmanager
def vcpu() -> Iterator[KvmVcpu]:
    """Open /dev/kvm and make one VM with one vCPU."""
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        vm = fcntl.ioctl(kvm, _CREATE_VM, 0)
        try:
            cpu = fcntl.ioctl(vm, _CREATE_VCPU, 0)
            try:
                yield KvmVcpu(kvm, cpu)
            finally:
                os.close(cpu)
        finally:
            os.close(vm)
    finally:
        os.close(kvm)


def missing() -> str | None:
    """Return why /dev/kvm cannot be used here, or None."""
    try:
        with vcpu():
            return None
    except OSError as error:
        return f"/dev/kvm: {error.strerror}"
