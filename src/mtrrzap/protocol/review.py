"""``review``: what the review of 25 August 2023 asks for.

A static array of 16 entries of 8 bytes instead of an allocated list (see ``zap_array``): sorted by
start, merged when drained, one entry for all fixed MTRRs; when the other 15 fill up the array is
purged and everything is queued, through the same mechanism, so that other vCPUs see it and wait.
One thing is added: a range that an entry covers already is not queued again (see ``zap_array``).
*Add* has one exit. The review says nothing about ``zapping``; this takes the bool under the lock of
the same reviewer's sketch, because with v4's flag the array would lose zaps as v4's list does.
"""

from mtrrzap.protocol.atomic import Atomic
from mtrrzap.protocol.operation import RELAXED, Range, Steps
from mtrrzap.protocol.shared import Spinlock
from mtrrzap.protocol.vm import Vm as BaseVm
from mtrrzap.protocol.zap_array import ZapArray


class Vm(BaseVm):
    """The array, its lock, and the bool; waiters read the bool without the lock."""

    lock = Spinlock()
    array = ZapArray(guard=lock)
    zapping = Atomic(False)


def review(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
    """Queue the ranges; zap if nobody does, else wait until nobody does."""
    yield vm.lock.lock()
    for start, end in ranges:
        yield vm.array.add(start, end)
    if (yield vm.zapping.load()):
        yield vm.lock.unlock()
        yield vm.zapping.wait_until(False, RELAXED)  # while (READ_ONCE(…)) cpu_relax();
        return
    yield vm.zapping.store(True)
    yield from drain(vm)


def drain(vm: Vm) -> Steps:
    """Take all that is queued, zap it, look again. Called with the lock held."""
    while batch := (yield vm.array.take()):
        yield vm.lock.unlock()
        for start, end in batch:
            yield vm.mmu.zap(start, end)
        yield vm.lock.lock()
    yield vm.zapping.store(False)
    yield vm.lock.unlock()
