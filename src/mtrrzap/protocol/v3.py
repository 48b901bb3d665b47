"""``v3``: patch 9 as posted in June 2023. It differs from v4 where the allocation fails.

It then clears the whole list, with the ranges that other vCPUs have queued, and zaps only its own
range. Found in review by Yuan Yao.
"""

from mtrrzap.protocol.operation import Range, Steps
from mtrrzap.protocol.v4 import Vm, add, zap_or_wait


def v3(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
    """``kvm_mtrr_zap_gfn_range()`` of v3, once for each range of the request."""
    for start, end in ranges:
        if not (yield vm.memory.alloc()):
            yield from clear(vm)
            yield vm.mmu.zap(start, end)
            continue
        yield from add(vm, start, end)
        yield from zap_or_wait(vm)


def clear(vm: Vm) -> Steps:
    """``kvm_clear_mtrr_zap_list()``: free every entry, also those that others wait for."""
    yield vm.lock.lock()
    yield vm.list.clear()
    yield vm.lock.unlock()
