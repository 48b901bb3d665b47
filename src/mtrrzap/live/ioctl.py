"""The part of KVM's interface that the monitor uses: ioctl numbers, capabilities, structures.

Source: Documentation/virt/kvm/api.rst and the UAPI header ``linux/kvm.h`` (x86-64). Sizes, offsets
and numbers are compared with the C compiler's in ``tests/test_live_ioctl.py``.
"""

import ctypes


def _io(number: int) -> int:
    return 0xAE << 8 | number


def _iow(number: int, size: int) -> int:
    return 1 << 30 | size << 16 | _io(number)


def _ior(number: int, size: int) -> int:
    return 2 << 30 | size << 16 | _io(number)


class Segment(ctypes.Structure):
    """``struct kvm_segment``."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("selector", ctypes.c_uint16),
        *((name, ctypes.c_uint8) for name in ("type", "present", "dpl", "db", "s", "l", "g")),
        *((name, ctypes.c_uint8) for name in ("avl", "unusable", "padding")),
    )


class Table(ctypes.Structure):
    """``struct kvm_dtable``: the GDT or IDT."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint16),
        ("padding", ctypes.c_uint16 * 3),
    )


class Sregs(ctypes.Structure):
    """``struct kvm_sregs``."""

    _fields_ = (
        *((name, Segment) for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")),
        ("gdt", Table),
        ("idt", Table),
        *((name, ctypes.c_uint64) for name in ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")),
        ("apic_base", ctypes.c_uint64),
        ("interrupt_bitmap", ctypes.c_uint64 * 4),
    )


REGISTERS = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
    *(f"r{number}" for number in range(8, 16)),
    *("rip", "rflags"),
)


class Regs(ctypes.Structure):
    """``struct kvm_regs``."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in REGISTERS)


class _MsrExit(ctypes.Structure):
    _fields_ = (
        ("error", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 7),
        ("reason", ctypes.c_uint32),
        ("index", ctypes.c_uint32),
        ("data", ctypes.c_uint64),
    )


class _IoExit(ctypes.Structure):
    _fields_ = (
        ("direction", ctypes.c_uint8),
        ("size", ctypes.c_uint8),
        ("port", ctypes.c_uint16),
        ("count", ctypes.c_uint32),
        ("data_offset", ctypes.c_uint64),
    )


class _InternalError(ctypes.Structure):
    _fields_ = (
        ("suberror", ctypes.c_uint32),
        ("ndata", ctypes.c_uint32),
        ("data", ctypes.c_uint64 * 16),
    )


class _Exit(ctypes.Union):
    _fields_ = (
        ("msr", _MsrExit),
        ("io", _IoExit),
        ("internal", _InternalError),
        ("padding", ctypes.c_uint8 * 256),
    )


class Run(ctypes.Structure):
    """``struct kvm_run`` up to the synchronised registers that are used here."""

    _fields_ = (
        ("request_interrupt_window", ctypes.c_uint8),
        ("immediate_exit", ctypes.c_uint8),
        ("padding1", ctypes.c_uint8 * 6),
        ("exit_reason", ctypes.c_uint32),
        ("ready_for_interrupt_injection", ctypes.c_uint8),
        ("if_flag", ctypes.c_uint8),
        ("flags", ctypes.c_uint16),
        ("cr8", ctypes.c_uint64),
        ("apic_base", ctypes.c_uint64),
        ("exit", _Exit),
        ("valid_regs", ctypes.c_uint64),
        ("dirty_regs", ctypes.c_uint64),
        ("regs", Regs),
        ("sregs", Sregs),
    )


class MemoryRegion(ctypes.Structure):
    """``struct kvm_userspace_memory_region``; sizes and addresses in bytes."""

    _fields_ = (
        ("slot", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("guest_phys_addr", ctypes.c_uint64),
        ("memory_size", ctypes.c_uint64),
        ("userspace_addr", ctypes.c_uint64),
    )


class EnableCap(ctypes.Structure):
    """``struct kvm_enable_cap``."""

    _fields_ = (
        ("cap", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("args", ctypes.c_uint64 * 4),
        ("pad", ctypes.c_uint8 * 64),
    )


class _FilterRange(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint32),
        ("nmsrs", ctypes.c_uint32),
        ("base", ctypes.c_uint32),
        ("bitmap", ctypes.c_void_p),
    )


class MsrFilter(ctypes.Structure):
    """``struct kvm_msr_filter``: a clear bit in a range's bitmap denies the access."""

    _fields_ = (("flags", ctypes.c_uint32), ("ranges", _FilterRange * 16))


class SignalMask(ctypes.Structure):
    """``struct kvm_signal_mask`` with the kernel's 64 signals."""

    _pack_ = 1
    _fields_ = (("len", ctypes.c_uint32), ("sigset", ctypes.c_uint64))


class StatsHeader(ctypes.Structure):
    """``struct kvm_stats_header``: offsets in bytes from the start of the file."""

    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in ("flags", "name_size", "num_desc", "id_offset", "desc_offset", "data_offset")
    )


class StatsDescriptor(ctypes.Structure):
    """``struct kvm_stats_desc``; a name of ``name_size`` bytes follows it."""

    _fields_ = (
        ("flags", ctypes.c_uint32),
        ("exponent", ctypes.c_int16),
        ("size", ctypes.c_uint16),
        ("offset", ctypes.c_uint32),
        ("bucket_size", ctypes.c_uint32),
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

EXIT_IO = 2
EXIT_HLT = 5
EXIT_MMIO = 6
EXIT_SHUTDOWN = 8
EXIT_FAIL_ENTRY = 9
EXIT_INTR = 10
EXIT_INTERNAL_ERROR = 17
EXIT_RDMSR = 29
EXIT_WRMSR = 30
EXIT_MEMORY_FAULT = 39
EXITS = {
    EXIT_IO: "IO",
    EXIT_HLT: "HLT",
    EXIT_MMIO: "MMIO",
    EXIT_SHUTDOWN: "SHUTDOWN",
    EXIT_FAIL_ENTRY: "FAIL_ENTRY",
    EXIT_INTR: "INTR",
    EXIT_INTERNAL_ERROR: "INTERNAL_ERROR",
    EXIT_RDMSR: "X86_RDMSR",
    EXIT_WRMSR: "X86_WRMSR",
    EXIT_MEMORY_FAULT: "MEMORY_FAULT",
}
"""``KVM_EXIT_*`` without the prefix."""
