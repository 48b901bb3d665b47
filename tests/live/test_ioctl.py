"""``live.ioctl`` against the C compiler's view of ``linux/kvm.h``."""

import ctypes
import shutil
import subprocess
from pathlib import Path

from helpers.recording import missing
from mtrrzap.live import ioctl as k

STRUCTURES = {
    "kvm_segment": k.KvmSegment,
    "kvm_dtable": k.DescriptorTable,
    "kvm_sregs": k.Sregs,
    "kvm_regs": k.Regs,
    "kvm_userspace_memory_region": k.MemoryRegion,
    "kvm_enable_cap": k.EnableCap,
    "kvm_msr_filter": k.MsrFilter,
    "kvm_msr_filter_range": k.MsrFilter._fields_[1][1]._type_,
    "kvm_stats_header": k.StatsHeader,
}
OFFSETS = {
    "offsetof(struct kvm_run, immediate_exit)": k.KvmRun.immediate_exit.offset,
    "offsetof(struct kvm_run, exit_reason)": k.KvmRun.exit_reason.offset,
    "offsetof(struct kvm_run, msr.error)": k.KvmRun.exit.offset,
    "offsetof(struct kvm_run, msr.index)": k.KvmRun.exit.offset + 12,
    "offsetof(struct kvm_run, msr.data)": k.KvmRun.exit.offset + 16,
    "offsetof(struct kvm_run, io.port)": k.KvmRun.exit.offset + 2,
    "offsetof(struct kvm_run, internal.ndata)": k.KvmRun.exit.offset + 4,
    "offsetof(struct kvm_run, internal.data)": k.KvmRun.exit.offset + 8,
    "offsetof(struct kvm_run, kvm_valid_regs)": k.KvmRun.valid_regs.offset,
    "offsetof(struct kvm_run, kvm_dirty_regs)": k.KvmRun.dirty_regs.offset,
    "offsetof(struct kvm_run, s.regs.regs)": k.KvmRun.regs.offset,
    "offsetof(struct kvm_run, s.regs.sregs)": k.KvmRun.sregs.offset,
    "offsetof(struct kvm_sregs, cr0)": k.Sregs.cr0.offset,
    "offsetof(struct kvm_sregs, efer)": k.Sregs.efer.offset,
    "offsetof(struct kvm_regs, rip)": k.Regs.rip.offset,
    "offsetof(struct kvm_segment, type)": k.KvmSegment.type.offset,
    "offsetof(struct kvm_segment, avl)": k.KvmSegment.avl.offset,
    "offsetof(struct kvm_stats_desc, offset)": k.StatsDescriptor.offset.offset,
    "offsetof(struct kvm_stats_desc, name)": ctypes.sizeof(k.StatsDescriptor),
    "offsetof(struct kvm_msr_filter_range, bitmap)": 16,
    "offsetof(struct kvm_signal_mask, sigset)": k.SignalMask.sigset.offset,
}
EXPRESSIONS = (
    *("GET_API_VERSION", "CREATE_VM", "CHECK_EXTENSION", "GET_VCPU_MMAP_SIZE", "CREATE_VCPU"),
    *("SET_USER_MEMORY_REGION", "SET_TSS_ADDR", "SET_IDENTITY_MAP_ADDR", "RUN"),
    *("GET_REGS", "SET_REGS", "GET_SREGS", "SET_SREGS", "SET_SIGNAL_MASK", "ENABLE_CAP"),
    *("X86_SET_MSR_FILTER", "GET_STATS_FD", "API_VERSION"),
    *("CAP_MAX_VCPUS", "CAP_SYNC_REGS", "CAP_IMMEDIATE_EXIT"),
    *("CAP_X86_USER_SPACE_MSR", "CAP_BINARY_STATS_FD"),
)
OTHERS = {
    "KVM_SYNC_X86_REGS": k.SYNC_REGS,
    "KVM_SYNC_X86_SREGS": k.SYNC_SREGS,
    "KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER": (
        k.MSR_EXIT_REASONS
    ),
    "KVM_MSR_FILTER_DEFAULT_DENY": k.MSR_FILTER_DEFAULT_DENY,
    "KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE": k.MSR_FILTER_READ_WRITE,
}


def test_numbers_and_layouts_are_the_compilers(tmp_path: Path) -> None:
    if shutil.which("gcc") is None or not Path("/usr/include/linux/kvm.h").exists():
        missing("no gcc or no linux/kvm.h (Debian: apt install gcc libc6-dev)")
    ours = {f"sizeof(struct {name})": ctypes.sizeof(each) for name, each in STRUCTURES.items()}
    ours |= OFFSETS | OTHERS | {f"KVM_{name}": getattr(k, name) for name in EXPRESSIONS}
    # KVM_EXIT_MEMORY_FAULT is younger (v6.8) than the headers of Debian 12.
    ours |= {f"KVM_EXIT_{e.name}": e.value for e in k.Exit if e is not k.Exit.MEMORY_FAULT}
    lines = "".join(f'printf("%llu\\n", (unsigned long long)({each}));' for each in ours)
    source = tmp_path / "facts.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n#include <linux/kvm.h>\n"
        f"int main(void) {{ {lines} return 0; }}\n"
    )
    program = tmp_path / "facts"
    subprocess.run(["gcc", "-o", program, source], check=True, timeout=60)
    out = subprocess.run([program], check=True, capture_output=True, text=True, timeout=10).stdout
    theirs = dict(zip(ours, map(int, out.split()), strict=True))
    assert theirs == ours
