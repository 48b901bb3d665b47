"""Protocols with one seeded bug each. Line numbers matter to test_automaton: see the markers."""

import random
from collections.abc import Iterator
from typing import Any

from mtrrzap.protocol import (
    ACQUIRE,
    RELEASE,
    Atomic,
    Range,
    Spinlock,
    Steps,
    Variable,
    Vm,
    ZapArray,
    ZapList,
)

Ranges = tuple[Range, ...]


class ListVm(Vm):
    lock = Spinlock()
    other = Spinlock()
    list = ZapList(guard=lock)
    flag = Atomic(0)
    plain = Variable(0, guard=lock)


class TinyVm(Vm):
    lock = Spinlock()
    array = ZapArray(guard=lock, entries=2, purges=False)


class SmallVm(Vm):
    lock = Spinlock()
    array = ZapArray(guard=lock, entries=2)


def no_lock(vm: ListVm, ranges: Ranges) -> Steps:
    yield vm.list.add(*ranges[0])  # unlocked
    yield vm.mmu.zap(*ranges[0])


def unlock_twice(vm: ListVm, ranges: Ranges) -> Steps:
    yield vm.lock.lock()
    yield vm.lock.unlock()
    yield vm.lock.unlock()
    yield vm.mmu.zap(*ranges[0])


def crossed_locks(vm: ListVm, ranges: Ranges) -> Steps:
    """A-B on the first call, B-A on the next."""
    first = (yield vm.flag.cmpxchg(0, 1)) == 0
    one, two = (vm.lock, vm.other) if first else (vm.other, vm.lock)
    yield one.lock()
    yield two.lock()
    yield vm.mmu.zap(*ranges[0])
    yield two.unlock()
    yield one.unlock()


def forgets_unlock(vm: ListVm, ranges: Ranges) -> Steps:
    yield vm.lock.lock()
    yield vm.mmu.zap(*ranges[0])


def drops(vm: TinyVm, ranges: Ranges) -> Steps:
    yield vm.lock.lock()
    for start, end in ranges:
        yield vm.array.add(start, end)
    for start, end in (yield vm.array.take()):
        yield vm.mmu.zap(start, end)
    yield vm.lock.unlock()


def purges(vm: SmallVm, ranges: Ranges) -> Steps:
    yield vm.lock.lock()
    for start, end in ranges:
        yield vm.array.add(start, end)
    for start, end in (yield vm.array.take()):
        yield vm.mmu.zap(start, end)
    yield vm.lock.unlock()


def zaps_nothing(vm: ListVm, ranges: Ranges) -> Steps:  # noqa: ARG001
    yield vm.flag.load()


def zaps_half(vm: ListVm, ranges: Ranges) -> Steps:
    start, end = ranges[0]
    yield vm.mmu.zap(start, (start + end) // 2)


def mutex(vm: ListVm, ranges: Ranges) -> Steps:
    """Correct and simple: one zap at a time, acquire and release right."""
    while (yield vm.flag.cmpxchg(0, 1, ACQUIRE)) != 0:
        yield vm.flag.wait_until(0)
    yield vm.mmu.zap(*ranges[0])
    yield vm.flag.store(0, RELEASE)


def relaxed_flag(vm: ListVm, ranges: Ranges) -> Steps:
    """The zapper publishes with a plain store: acquiring it orders nothing."""
    if (yield vm.flag.cmpxchg(0, 1)) == 0:
        yield vm.mmu.zap(*ranges[0])
        yield vm.flag.store(2)
        return
    yield vm.flag.wait_until(2, ACQUIRE)


def zaps_until_quiet(vm: ListVm, ranges: Ranges) -> Steps:
    """Zaps again and again while another vCPU is at it."""
    if (yield vm.flag.cmpxchg(0, 1)) == 0:
        yield vm.mmu.zap(*ranges[0])
        yield vm.flag.store(0)
        return
    while True:
        yield vm.mmu.zap(*ranges[0])
        if (yield vm.flag.load()) == 0:
            return


def spins(vm: ListVm, ranges: Ranges) -> Steps:  # noqa: ARG001
    while True:
        yield vm.flag.load()  # spins


def counts(vm: ListVm, ranges: Ranges) -> Steps:  # noqa: ARG001
    n = 0
    while True:
        n += 1
        yield vm.flag.store(n)  # counts


def hangs(vm: ListVm, ranges: Ranges) -> Steps:
    yield vm.mmu.zap(*ranges[0])
    while True:
        pass  # hangs


def rubbish(vm: ListVm, ranges: Ranges) -> Any:  # noqa: ARG001
    yield vm.flag.load()
    yield 42  # rubbish


def foreign(vm: ListVm, ranges: Ranges) -> Steps:  # noqa: ARG001
    yield Atomic(0).load()  # foreign


def raises(vm: ListVm, ranges: Ranges) -> Steps:  # noqa: ARG001
    yield vm.flag.load()
    raise ZeroDivisionError("oops")  # raises


def sets_vm(vm: ListVm, ranges: Ranges) -> Steps:  # noqa: ARG001
    yield vm.flag.load()
    vm.flag = Atomic(1)  # sets_vm


def sets_object(vm: ListVm, ranges: Ranges) -> Steps:  # noqa: ARG001
    yield vm.flag.load()
    vm.flag.start = 7  # sets_object


def throws_dice(vm: ListVm, ranges: Ranges) -> Steps:
    if random.random() < 0.5:
        yield vm.flag.load()
    yield vm.mmu.zap(*ranges[0])


def silent(vm: ListVm, ranges: Ranges) -> Iterator[Any]:  # noqa: ARG001
    yield from ()
