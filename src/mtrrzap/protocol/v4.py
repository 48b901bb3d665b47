"""``v4``: patch 9 of 12 as posted on 14 July 2023, "KVM: x86/mmu: serialize vCPUs to zap gfn…".

The list's lock is released before ``zapping`` is cleared. A vCPU that queues its range in between,
fails the exchange and then reads 0 returns with its range never zapped.
"""

from mtrrzap.protocol.atomic import Atomic
from mtrrzap.protocol.operation import ACQUIRE, RELAXED, RELEASE, Range, Steps
from mtrrzap.protocol.shared import Spinlock
from mtrrzap.protocol.vm import Vm as BaseVm
from mtrrzap.protocol.zap_list import ZapList


class Vm(BaseVm):
    """The list, its lock, and the flag: in the patch ``mtrr_zap_list`` and so on."""

    lock = Spinlock()
    list = ZapList(guard=lock)
    zapping = Atomic(0)


def v4(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
    """``kvm_mtrr_zap_gfn_range()``, once for each range of the request."""
    for start, end in ranges:
        if not (yield vm.memory.alloc()):
            yield vm.mmu.zap(start, end)  # no entry: zap directly, alone
            continue
        yield from add(vm, start, end)
        yield from zap_or_wait(vm)


def add(vm: Vm, start: int, end: int) -> Steps:
    """``kvm_add_mtrr_zap_list()``: queue the range unless it is queued already."""
    yield vm.lock.lock()
    yield vm.list.add(start, end)
    yield vm.lock.unlock()


def zap_or_wait(vm: Vm) -> Steps:
    """``kvm_zap_or_wait_mtrr_zap_list()``: one vCPU drains the list, the others wait for it."""
    if (yield vm.zapping.cmpxchg(0, 1, ACQUIRE)) == 0:
        yield from drain(vm)
        yield vm.zapping.store(0, RELEASE)
        return
    yield vm.zapping.wait_until(0, RELAXED)  # while (atomic_read(&…mtrr_zapping)) cpu_relax();


def drain(vm: Vm) -> Steps:
    """``kvm_zap_mtrr_zap_list()``: the lock is released while a range is zapped."""
    yield vm.lock.lock()
    while (entry := (yield vm.list.pop_first())) is not None:
        yield vm.lock.unlock()
        yield vm.mmu.zap(*entry)
        yield vm.lock.lock()
    yield vm.lock.unlock()
