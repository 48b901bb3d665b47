"""``kernel.abi`` against the C compiler's view of ``linux/kvm.h`` and ``linux/vfio.h``."""

import ctypes
import shutil
import subprocess
from pathlib import Path

from helpers.recording import missing
from mtrrzap.kernel import abi

STRUCTURES = {
    "kvm_cpuid_entry2": abi.CpuidEntry,
    "kvm_msi": abi.Msi,
    "kvm_create_device": abi.CreateDevice,
    "kvm_device_attr": abi.DeviceAttr,
    "kvm_lapic_state": abi.Lapic,
    "vfio_group_status": abi.GroupStatus,
}
OTHERS = {
    "offsetof(struct kvm_cpuid2, entries)": abi.Cpuid.entries.offset,
    "sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)": ctypes.sizeof(abi.Msr),
    "offsetof(struct kvm_msrs, entries)": abi.Msr.index.offset,
    "KVM_X86_QUIRK_CD_NW_CLEARED": abi.QUIRK_CD_NW_CLEARED,
}
KVM = (
    *("GET_SUPPORTED_CPUID", "SET_CPUID2", "GET_MSRS", "SET_MSRS", "GET_LAPIC", "SET_LAPIC"),
    *("GET_MP_STATE", "SET_MP_STATE", "SIGNAL_MSI", "CREATE_DEVICE", "SET_DEVICE_ATTR"),
    *("CAP_SPLIT_IRQCHIP", "CAP_DISABLE_QUIRKS2", "MP_STATE_RUNNABLE", "DEV_TYPE_VFIO"),
    *("DEV_VFIO_GROUP", "DEV_VFIO_GROUP_ADD"),
)
VFIO = (
    *("VFIO_CHECK_EXTENSION", "VFIO_SET_IOMMU", "VFIO_GROUP_GET_STATUS"),
    *("VFIO_GROUP_SET_CONTAINER", "VFIO_DMA_CC_IOMMU", "VFIO_GROUP_FLAGS_VIABLE"),
)


def test_numbers_and_layouts_are_the_compilers(tmp_path: Path) -> None:
    if shutil.which("gcc") is None or not Path("/usr/include/linux/vfio.h").exists():
        missing("no gcc or no linux/vfio.h (Debian: apt install gcc libc6-dev)")
    ours = {f"sizeof(struct {name})": ctypes.sizeof(each) for name, each in STRUCTURES.items()}
    ours |= OTHERS | {f"KVM_{name}": getattr(abi, name) for name in KVM}
    ours |= {name: getattr(abi, name) for name in VFIO}
    ours["VFIO_TYPE1v2_IOMMU"] = abi.VFIO_TYPE1V2_IOMMU
    lines = "".join(f'printf("%llu\\n", (unsigned long long)({each}));' for each in ours)
    source = tmp_path / "facts.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n"
        "#include <linux/kvm.h>\n#include <linux/vfio.h>\n"
        f"int main(void) {{ {lines} return 0; }}\n"
    )
    subprocess.run(["gcc", "-o", tmp_path / "facts", source], check=True)
    said = subprocess.run([tmp_path / "facts"], capture_output=True, text=True, check=True)
    assert dict(zip(ours, map(int, said.stdout.split()), strict=True)) == ours
