"""The part of KVM's interface that the monitor uses: ioctl numbers, capabilities, structures.

Source: Documentation/virt/kvm/api.rst and the UAPI header ``linux/kvm.h`` (x86-64). Sizes, offsets
and numbers are compared with the C compiler's in ``tests/live/test_ioctl.py``.
"""

import ctypes
from enum import IntEnum
from typing import Any


def _io(number: int) -> int:
    return 0xAE << 8 | number


def _iow(number: int, size: int) -> int:
    return 1 << 30 | size << 16 | _io(number)


def _ior(number: int, size: int) -> int:
    return 2 << 30 | size << 16 | _io(number)


def _u(bits: int, *names: str) -> tuple[tuple[str, type[Any]], ...]:
    """Return fields that are unsigned integers."""
    return tuple((name, getattr(ctypes, f"c_uint{bits}")) for name in names)


class KvmSegment(ctypes.Structure):
    """``struct kvm_segment``."""

    _fields_ = (
        *(*_u(64, "base"), *_u(32, "limit"), *_u(16, "selector")),
        *_u(8, "type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable", "padding"),
    )


class DescriptorTable(ctypes.Structure):
    """``struct kvm_dtable``: the GDT or IDT."""

    _fields_ = (*_u(64, "base"), *_u(16, "limit"), ("padding", ctypes.c_uint16 * 3))


class Sregs(ctypes.Structure):
    """``struct kvm_sregs``."""

    _fields_ = (
        *((name, KvmSegment) for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")),
        *((name, DescriptorTable) for name in ("gdt", "idt")),
        *_u(64, "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base"),
        ("interrupt_bitmap", ctypes.c_uint64 * 4),
    )


REGISTERS = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
    *(f"r{number}" for number in range(8, 16)),
    *("rip", "rflags"),
)


class Regs(ctypes.Structure):
    """``struct kvm_regs``."""

    _fields_ = _u(64, *REGISTERS)


class _MsrExit(ctypes.Structure):
    _fields_ = (
        *_u(8, "error"),
        ("pad", ctypes.c_uint8 * 7),
        *_u(32, "reason", "index"),
        *_u(64, "data"),
    )


class _IoExit(ctypes.Structure):
    _fields_ = (*_u(8, "direction", "size"), *_u(16, "port"), *_u(32, "count"), *_u(64, "offset"))


class _InternalError(ctypes.Structure):
    _fields_ = (*_u(32, "suberror", "ndata"), ("data", ctypes.c_uint64 * 16))


class _ExitUnion(ctypes.Union):
    _fields_ = (
        ("msr", _MsrExit),
        ("io", _IoExit),
        ("internal", _InternalError),
        ("padding", ctypes.c_uint8 * 256),
    )


class KvmRun(ctypes.Structure):
    """``struct kvm_run`` up to the synchronised registers that are used here."""

    _fields_ = (
        *_u(8, "request_interrupt_window", "immediate_exit"),
        ("padding1", ctypes.c_uint8 * 6),
        *_u(32, "exit_reason"),
        *_u(8, "ready_for_interrupt_injection", "if_flag"),
        *_u(16, "flags"),
        *_u(64, "cr8", "apic_base"),
        ("exit", _ExitUnion),
        *_u(64, "valid_regs", "dirty_regs"),
        ("regs", Regs),
        ("sregs", Sregs),
    )


class MemoryRegion(ctypes.Structure):
    """``struct kvm_userspace_memory_region``; sizes and addresses in bytes."""

    _fields_ = (
        *_u(32, "slot", "flags"),
        *_u(64, "guest_phys_addr", "memory_size", "userspace_addr"),
    )


class EnableCap(ctypes.Structure):
    """``struct kvm_enable_cap``."""

    _fields_ = (
        *_u(32, "cap", "flags"),
        ("args", ctypes.c_uint64 * 4),
        ("pad", ctypes.c_uint8 * 64),
    )


class _FilterRange(ctypes.Structure):
    _fields_ = (*_u(32, "flags", "nmsrs", "base"), ("bitmap", ctypes.c_void_p))


class MsrFilter(ctypes.Structure):
    """``struct kvm_msr_filter``: a clear bit in a range's bitmap denies the access."""

    _fields_ = (*_u(32, "flags"), ("ranges", _FilterRange * 16))


class SignalMask(ctypes.Structure):
    """``struct kvm_signal_mask`` with the kernel's 64 signals."""

    _pack_ = 1
    _fields_ = (*_u(32, "len"), *_u(64, "sigset"))


class StatsHeader(ctypes.Structure):
    """``struct kvm_stats_header``: offsets in bytes from the start of the file."""

    _fields_ = _u(32, "flags", "name_size", "num_desc", "id_offset", "desc_offset", "data_offset")


class StatsDescriptor(ctypes.Structure):
    """``struct kvm_stats_desc``; a name of ``name_size`` bytes follows it."""

    _fields_ = (
        *_u(32, "flags"),
        ("exponent", ctypes.c_int16),
        *_u(16, "size"),
        *_u(32, "offset", "bucket_size"),
    )


API_VERSION = 12
GET_API_VERSION = _io(0x00)
CREATE_VM = _io(0x01)
CHECK_EXTENSION = _io(0x03)
GET_VCPU_MMAP_SIZE = _io(0x04)
CREATE_VCPU = _io(0x41)
SET_USER_MEMORY_REGION = _iow(0x46, ctypes.sizeof(MemoryRegion))
SET_TSS_ADDR = _io(0x47)
SET_IDENTITY_MAP_ADDR = _iow(0x48, 8)
RUN = _io(0x80)
GET_REGS = _ior(0x81, ctypes.sizeof(Regs))
SET_REGS = _iow(0x82, ctypes.sizeof(Regs))
GET_SREGS = _ior(0x83, ctypes.sizeof(Sregs))
SET_SREGS = _iow(0x84, ctypes.sizeof(Sregs))
SET_SIGNAL_MASK = _iow(0x8B, 4)
ENABLE_CAP = _iow(0xA3, ctypes.sizeof(EnableCap))
X86_SET_MSR_FILTER = _iow(0xC6, ctypes.sizeof(MsrFilter))
GET_STATS_FD = _io(0xCE)

CAP_NR_MEMSLOTS = 10
CAP_MAX_VCPUS = 66
CAP_SYNC_REGS = 74
CAP_IMMEDIATE_EXIT = 136
CAP_X86_USER_SPACE_MSR = 188
CAP_BINARY_STATS_FD = 203

SYNC_REGS = 1 << 0
SYNC_SREGS = 1 << 1

MSR_EXIT_REASONS = 0b111
"""Accesses that KVM refuses, does not know, or that the filter denies: all go to user space."""
MSR_FILTER_DEFAULT_DENY = 1
MSR_FILTER_READ_WRITE = 0b11


class Exit(IntEnum):
    """``KVM_EXIT_*``."""

    IO = 2
    HLT = 5
    MMIO = 6
    SHUTDOWN = 8
    FAIL_ENTRY = 9
    INTR = 10
    INTERNAL_ERROR = 17
    X86_RDMSR = 29
    X86_WRMSR = 30
    MEMORY_FAULT = 39
