"""Protocols that an engine with a blind spot judges wrongly: one spot each."""

from __future__ import annotations

from mtrrzap.protocol import (
    ACQUIRE,
    RELEASE,
    Atomic,
    Range,
    Spinlock,
    Steps,
    Variable,
    Vm,
)

Ranges = tuple[Range, ...]


class GateVm(Vm):
    lock = Spinlock()
    left = Variable(2, guard=lock)
    busy = Variable(0, guard=lock)
    gate = Atomic(1)
    state = Atomic(0)


def leak(vm: GateVm, ranges: Ranges) -> Steps:
    """The lock is never released: the next call waits for ever, and with it everybody."""
    yield vm.lock.lock()
    yield vm.mmu.zap(*ranges[0])


def budget(vm: GateVm, ranges: Ranges) -> Steps:
    """The third call closes the gate for ever, behind itself too."""
    yield vm.lock.lock()
    left = yield vm.left.load()
    if left:
        yield vm.left.store(left - 1)
    else:
        yield vm.gate.store(0)
    yield vm.lock.unlock()
    yield vm.gate.wait_until(1)
    yield vm.mmu.zap(*ranges[0])


def retry(vm: GateVm, ranges: Ranges) -> Steps:
    """``retry: spin_lock(); if (busy) { spin_unlock(); goto retry; }``: may starve."""
    while True:
        yield vm.lock.lock()
        if not (yield vm.busy.load()):
            break
        yield vm.lock.unlock()
    yield vm.busy.store(1)
    yield vm.lock.unlock()
    yield vm.mmu.zap(*ranges[0])
    yield vm.lock.lock()
    yield vm.busy.store(0)
    yield vm.lock.unlock()


def polls(vm: GateVm, ranges: Ranges) -> Steps:
    """Correct: the first exchange asks, the other vCPU zaps after that, the last one sees it."""
    if ranges[0][0] == 0:
        yield vm.state.wait_until(1)
        yield vm.mmu.zap(0, 0x200)
        yield vm.state.store(2, RELEASE)
        return
    while (yield vm.state.cmpxchg(0, 1, ACQUIRE)) != 2:
        pass
