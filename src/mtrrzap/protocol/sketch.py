"""``sketch``: the code that the v2 discussion sketched on 24 May 2023.

A plain bool under the list's lock. A vCPU that queues a range while nobody zaps sets it; the zapper
clears it under the lock when it has seen the list empty. So no queued range can be missed. v4
replaced this bool.
"""

from mtrrzap.protocol.atomic import Atomic
from mtrrzap.protocol.operation import RELAXED, Range, Steps
from mtrrzap.protocol.shared import Spinlock
from mtrrzap.protocol.vm import Vm as BaseVm
from mtrrzap.protocol.zap_list import ZapList


class Vm(BaseVm):
    """The list, its lock, and the bool; waiters read the bool without the lock."""

    lock = Spinlock()
    list = ZapList(guard=lock)
    zapping = Atomic(False)


def sketch(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
    """Queue the ranges; zap if nobody does, else wait until nobody does."""
    entries = 0
    for _ in ranges:
        if (yield vm.memory.alloc()):
            entries += 1
    if entries < len(ranges):
        yield from zap_directly(vm, ranges)
        return
    yield vm.lock.lock()
    for start, end in ranges:
        yield vm.list.add(start, end)
    if (yield vm.zapping.load()):
        yield vm.lock.unlock()
        yield vm.zapping.wait_until(False, RELAXED)  # while (READ_ONCE(…)) cpu_relax();
        return
    yield vm.zapping.store(True)
    yield from drain(vm)


def drain(vm: Vm) -> Steps:
    """Zap until the list is empty, and say so before the lock is released. Called with the lock."""
    while (entry := (yield vm.list.pop_first())) is not None:
        yield vm.lock.unlock()
        yield vm.mmu.zap(*entry)
        yield vm.lock.lock()
    yield vm.zapping.store(False)
    yield vm.lock.unlock()


def zap_directly(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
    """Without an entry to queue, zap alone, as v4 does."""
    for start, end in ranges:
        yield vm.mmu.zap(start, end)
