"""More of KVM's interface than ``live.ioctl`` has, and the part of VFIO's that a monitor needs.

Source: Documentation/virt/kvm/api.rst, Documentation/virt/kvm/devices/vfio.rst, the UAPI headers
``linux/kvm.h`` and ``linux/vfio.h`` (x86-64). ``tests/kernel/test_abi.py`` compares sizes and
numbers with the C compiler's.
"""

import ctypes

MAX_CPUID_ENTRIES = 256


class CpuidEntry(ctypes.Structure):
    """``struct kvm_cpuid_entry2``."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("function", "index", "flags")),
        *((name, ctypes.c_uint32) for name in ("eax", "ebx", "ecx", "edx")),
        ("padding", ctypes.c_uint32 * 3),
    )


class Cpuid(ctypes.Structure):
    """``struct kvm_cpuid2`` with room for ``MAX_CPUID_ENTRIES``; ``nent`` says how many count."""

    _fields_ = (
        ("nent", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("entries", CpuidEntry * MAX_CPUID_ENTRIES),
    )


class Msr(ctypes.Structure):
    """``struct kvm_msrs`` with one ``struct kvm_msr_entry``."""

    _fields_ = (
        ("nmsrs", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("index", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("data", ctypes.c_uint64),
    )


class Msi(ctypes.Structure):
    """``struct kvm_msi``."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("address_lo", "address_hi", "data", "flags")),
        *((name, ctypes.c_uint32) for name in ("devid",)),
        ("pad", ctypes.c_uint8 * 12),
    )


Lapic = ctypes.c_uint8 * 0x400
"""``struct kvm_lapic_state``."""


class CreateDevice(ctypes.Structure):
    """``struct kvm_create_device``; KVM sets ``fd``."""

    _fields_ = tuple((name, ctypes.c_uint32) for name in ("type", "fd", "flags"))


class DeviceAttr(ctypes.Structure):
    """``struct kvm_device_attr``; ``addr`` points to the value."""

    _fields_ = (
        ("flags", ctypes.c_uint32),
        ("group", ctypes.c_uint32),
        ("attr", ctypes.c_uint64),
        ("addr", ctypes.c_uint64),
    )


class GroupStatus(ctypes.Structure):
    """``struct vfio_group_status``; the caller sets ``argsz``."""

    _fields_ = (("argsz", ctypes.c_uint32), ("flags", ctypes.c_uint32))


_KVMIO, _VFIO = 0xAE, ord(";")
_WRITE, _READ = 1 << 30, 2 << 30

GET_SUPPORTED_CPUID = _READ | _WRITE | 8 << 16 | _KVMIO << 8 | 0x05
SET_CPUID2 = _WRITE | 8 << 16 | _KVMIO << 8 | 0x90
GET_MSRS = _READ | _WRITE | 8 << 16 | _KVMIO << 8 | 0x88
SET_MSRS = _WRITE | 8 << 16 | _KVMIO << 8 | 0x89
GET_LAPIC = _READ | 0x400 << 16 | _KVMIO << 8 | 0x8E
SET_LAPIC = _WRITE | 0x400 << 16 | _KVMIO << 8 | 0x8F
GET_MP_STATE = _READ | 4 << 16 | _KVMIO << 8 | 0x98
SET_MP_STATE = _WRITE | 4 << 16 | _KVMIO << 8 | 0x99
SIGNAL_MSI = _WRITE | ctypes.sizeof(Msi) << 16 | _KVMIO << 8 | 0xA5
CREATE_DEVICE = _READ | _WRITE | ctypes.sizeof(CreateDevice) << 16 | _KVMIO << 8 | 0xE0
SET_DEVICE_ATTR = _WRITE | ctypes.sizeof(DeviceAttr) << 16 | _KVMIO << 8 | 0xE1

CAP_SPLIT_IRQCHIP = 121
CAP_DISABLE_QUIRKS2 = 213
QUIRK_CD_NW_CLEARED = 1 << 1
MP_STATE_RUNNABLE = 0
DEV_TYPE_VFIO = 4
DEV_VFIO_GROUP, DEV_VFIO_GROUP_ADD = 1, 1

VFIO_CHECK_EXTENSION = _VFIO << 8 | 101
VFIO_SET_IOMMU = _VFIO << 8 | 102
VFIO_GROUP_GET_STATUS = _VFIO << 8 | 103
VFIO_GROUP_SET_CONTAINER = _VFIO << 8 | 104
VFIO_TYPE1V2_IOMMU = 3
VFIO_DMA_CC_IOMMU = 4
VFIO_GROUP_FLAGS_VIABLE = 1
