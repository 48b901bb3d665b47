"""A VFIO group that belongs to a VM: what makes its DMA non-coherent for KVM.

``kvm_vfio_group_add`` (virt/kvm/vfio.c) calls ``kvm_arch_register_noncoherent_dma`` if the IOMMU
cannot enforce snooping for the group's container.
"""

import ctypes
import os
from errno import EACCES, EBUSY, EPERM
from pathlib import Path

from mtrrzap.errors import UserError
from mtrrzap.kernel import abi
from mtrrzap.live.host import ioctl

FOLDER = Path("/dev/vfio")


class Group:
    """A group in a container of its own. Owns descriptors until ``close``."""

    def __init__(self, number: int) -> None:
        """Open it and set its IOMMU. Raises ``UserError``."""
        self.path = FOLDER / str(number)
        self._fds: list[int] = []
        try:
            self._open()
        except OSError as error:
            self.close()
            raise self._explained(error) from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        container = self._opened(FOLDER / "vfio")
        group = self._opened(self.path)
        status = abi.GroupStatus(argsz=ctypes.sizeof(abi.GroupStatus))
        ioctl(group, abi.VFIO_GROUP_GET_STATUS, status)
        if not status.flags & abi.VFIO_GROUP_FLAGS_VIABLE:
            raise UserError(
                "a device of this group belongs to another driver",
                place=str(self.path),
                mend="bind every device of the group to vfio-pci",
            )
        ioctl(group, abi.VFIO_GROUP_SET_CONTAINER, ctypes.c_int(container))
        try:
            ioctl(container, abi.VFIO_SET_IOMMU, abi.VFIO_TYPE1V2_IOMMU)
        except PermissionError as error:
            raise UserError(
                "its IOMMU does not remap interrupts, so VFIO does not trust the device",
                place=str(self.path),
                mend="turn interrupt remapping on, or load vfio_iommu_type1 with "
                "allow_unsafe_interrupts=1",
            ) from error
        self._group, self._container = group, container

    def _opened(self, path: Path) -> int:
        self._fds.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return self._fds[-1]

    @property
    def coherent(self) -> bool:
        """The IOMMU enforces snooping, so KVM need not honour the guest's memory types."""
        return bool(ioctl(self._container, abi.VFIO_CHECK_EXTENSION, abi.VFIO_DMA_CC_IOMMU))

    def attach(self, vm: int) -> None:
        """Give the group to a VM for as long as this object is open. Raises ``OSError``."""
        device = abi.CreateDevice(type=abi.DEV_TYPE_VFIO)
        ioctl(vm, abi.CREATE_DEVICE, device)
        self._fds.append(device.fd)
        group = ctypes.c_int32(self._group)
        attr = abi.DeviceAttr(group=abi.DEV_VFIO_GROUP, attr=abi.DEV_VFIO_GROUP_ADD)
        attr.addr = ctypes.addressof(group)
        ioctl(device.fd, abi.SET_DEVICE_ATTR, attr)

    def _explained(self, error: OSError) -> UserError:
        place = error.filename or str(self.path)
        if error.errno == EBUSY:
            return UserError("another program uses this group", place=place, mend="end it first")
        if error.errno in (EACCES, EPERM):
            mend = "run it as root"
        elif not (FOLDER / "vfio").exists():
            mend = "load vfio-pci, in a kernel with CONFIG_VFIO_GROUP, on a host with its IOMMU on"
        else:
            mend = f"bind its device to vfio-pci; groups here: {groups()}"
        return UserError(f"cannot be used: {error.strerror}", place=place, mend=mend)

    def close(self) -> None:
        """Close everything: the VM is coherent again."""
        while self._fds:
            os.close(self._fds.pop())


def groups() -> str:
    """Return the numbers of this host's VFIO groups, or ``none``."""
    try:
        found = sorted(int(path.name) for path in FOLDER.iterdir() if path.name.isdecimal())
    except OSError:
        found = []
    return ", ".join(map(str, found)) or "none"
