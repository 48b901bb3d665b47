"""``v4_patch10``: patch 10 of v4, the fine-grained zap on a toggle of CR0.CD.

All ranges of the request are queued, then drained once. If an allocation fails on the way, the list
is cleared and everything is zapped directly, outside ``zapping``. A vCPU that had queued a range
then drains an empty list, and returns while that zap is still under way.
"""

from mtrrzap.protocol.operation import ALL_GFNS, Range, Steps
from mtrrzap.protocol.v3 import clear
from mtrrzap.protocol.v4 import Vm, add, zap_or_wait


def v4_patch10(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
    """``kvm_zap_gfn_range_on_cd_toggle()``."""
    for start, end in ranges:
        if not (yield vm.memory.alloc()):
            yield from clear(vm)
            yield vm.mmu.zap(*ALL_GFNS)
            return
        yield from add(vm, start, end)
    yield from zap_or_wait(vm)
