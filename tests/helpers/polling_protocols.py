"""Protocols whose waiters look again and again, in loops of their own."""

from collections.abc import Generator
from typing import Any

from mtrrzap.protocol import Atomic, Operation, Range, Spinlock, Steps, Vm, ZapList


class PollVm(Vm):
    lock = Spinlock()
    list = ZapList(guard=lock)
    zapping = Atomic(False)


def polls_the_bool(vm: PollVm, ranges: tuple[Range, ...]) -> Steps:
    if not (yield from _queued(vm, ranges)):
        return
    while (yield vm.zapping.load()):
        pass


def polls_under_the_lock(vm: PollVm, ranges: tuple[Range, ...]) -> Steps:
    if not (yield from _queued(vm, ranges)):
        return
    while True:
        yield vm.lock.lock()
        zapping = yield vm.zapping.load()
        yield vm.lock.unlock()
        if not zapping:
            return


def _queued(vm: PollVm, ranges: tuple[Range, ...]) -> Generator[Operation, Any, bool]:
    """Queue the ranges as the sketch does, and zap if nobody does; return whether somebody does."""
    for _ in ranges:
        yield vm.memory.alloc()
    yield vm.lock.lock()
    for start, end in ranges:
        yield vm.list.add(start, end)
    if (yield vm.zapping.load()):
        yield vm.lock.unlock()
        return True
    yield vm.zapping.store(True)
    while (entry := (yield vm.list.pop_first())) is not None:
        yield vm.lock.unlock()
        yield vm.mmu.zap(*entry)
        yield vm.lock.lock()
    yield vm.zapping.store(False)
    yield vm.lock.unlock()
    return False


def looks_twice(vm: PollVm, ranges: tuple[Range, ...]) -> Steps:
    for _ in range(2):
        if (yield vm.zapping.cmpxchg(False, True)) is False:
            yield vm.mmu.zap(*ranges[0])
            yield vm.zapping.store(False)
            return
    yield vm.mmu.zap(*ranges[0])
