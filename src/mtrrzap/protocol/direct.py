"""``direct``: every vCPU zaps its own ranges. What KVM does up to Linux 6.10.

``update_mtrr()`` and ``kvm_post_set_cr0()`` call ``kvm_zap_gfn_range()`` on their own; the only
thing they share is ``mmu_lock``, for which all of them queue.
"""

from mtrrzap.protocol.operation import Range, Steps
from mtrrzap.protocol.vm import Vm


def direct(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
    """Zap every range, alone."""
    for start, end in ranges:
        yield vm.mmu.zap(start, end)
