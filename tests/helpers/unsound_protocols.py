"""Protocols that an engine with a blind spot judges wrongly: one spot each."""

from __future__ import annotations

import sys
from typing import Any

from mtrrzap.protocol import (
    ACQUIRE,
    RELAXED,
    RELEASE,
    Atomic,
    Operation,
    Outcome,
    Range,
    Sequence,
    SharedObject,
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
    while True:
        if (yield vm.state.cmpxchg(0, 1, ACQUIRE)) == 2:
            return


def delegates_to_a_list(vm: GateVm, ranges: Ranges) -> Steps:
    """The loser leaves without a zap, after two equal steps out of a list."""
    if (yield vm.state.cmpxchg(0, 1)) == 0:
        yield vm.mmu.zap(*ranges[0])
        return
    yield from [vm.gate.store(1), vm.gate.store(1)]


class Loads:
    """Three operations, by hand."""

    def __init__(self, vm: GateVm) -> None:
        self.vm, self.left = vm, 3

    def __iter__(self) -> Loads:
        return self

    def __next__(self) -> Operation:
        self.left -= 1
        if self.left < 0:
            raise StopIteration
        return self.vm.gate.load()

    def send(self, _: object) -> Operation:
        return next(self)


def delegates_to_an_iterator(vm: GateVm, ranges: Ranges) -> Any:
    """The loser leaves without a zap, after three equal steps of an iterator."""
    if (yield vm.state.cmpxchg(0, 1)) == 0:
        yield vm.mmu.zap(*ranges[0])
        return
    yield from Loads(vm)


def with_a_list(vm: GateVm, ranges: Ranges) -> Steps:
    done = []
    while (yield vm.state.cmpxchg(0, 1, ACQUIRE)) != 0:
        yield vm.state.wait_until(0)
    for each in ranges:
        yield vm.mmu.zap(*each)
        done.append(each)
    yield vm.state.store(0, RELEASE)


def with_a_lambda(vm: GateVm, ranges: Ranges) -> Steps:
    key = lambda each: each[1] - each[0]  # noqa: E731
    while (yield vm.state.cmpxchg(0, 1, ACQUIRE)) != 0:
        yield vm.state.wait_until(0)
    for each in sorted(ranges, key=key):
        yield vm.mmu.zap(*each)
    yield vm.state.store(0, RELEASE)


def with_an_inner_generator(vm: GateVm, ranges: Ranges) -> Steps:
    def take() -> Steps:
        while (yield vm.state.cmpxchg(0, 1, ACQUIRE)) != 0:
            yield vm.state.wait_until(0)

    yield from take()
    for each in ranges:
        yield vm.mmu.zap(*each)
    yield vm.state.store(0, RELEASE)


class Owner(SharedObject):
    """Who came last; ``wait`` until that is somebody else."""

    @property
    def initial(self) -> None:
        return None

    def mark(self) -> Operation:
        return self._operation("mark")

    def wait(self) -> Operation:
        return self._operation("wait")

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:
        if operation.verb == "mark":
            return ((vcpu, None),)
        return ((value, None),) if value != vcpu else ()


class Statistics(SharedObject):
    """Has the verbs of others, and nothing to do with them."""

    @property
    def initial(self) -> tuple[()]:
        return ()

    def zap(self, start: int, end: int) -> Operation:
        return self._operation("zap", start, end)

    def unlock(self) -> Operation:
        return self._operation("unlock")

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        return ((value, None),)


class OwnVm(Vm):
    owner = Owner()
    statistics = Statistics()


def last_one_waits(vm: OwnVm, ranges: Ranges) -> Steps:
    """Whoever comes last waits for ever, and nobody else."""
    yield vm.owner.mark()
    yield vm.mmu.zap(*ranges[0])
    yield vm.owner.wait()


def counts_as_nothing(vm: OwnVm, ranges: Ranges) -> Steps:
    yield vm.statistics.zap(*ranges[0])
    yield vm.statistics.unlock()


def full_barriers(vm: GateVm, ranges: Ranges) -> Steps:
    """A bare exchange that succeeds releases and acquires."""
    if (yield vm.state.cmpxchg(0, 1)) == 0:
        yield vm.gate.wait_until(2)
        yield vm.mmu.zap(*ranges[0])
        yield vm.state.cmpxchg(1, 2)
        return
    yield vm.gate.store(2)
    while True:
        if (yield vm.state.cmpxchg(2, 3)) == 2:
            return


def no_barriers(vm: GateVm, ranges: Ranges) -> Steps:
    """The same with relaxed exchanges."""
    if (yield vm.state.cmpxchg(0, 1, RELAXED)) == 0:
        yield vm.gate.wait_until(2)
        yield vm.mmu.zap(*ranges[0])
        yield vm.state.cmpxchg(1, 2, RELAXED)
        return
    yield vm.gate.store(2)
    while True:
        if (yield vm.state.cmpxchg(2, 3, RELAXED)) == 2:
            return


class NumberVm(Vm):
    lock = Spinlock()
    next = Sequence(0, guard=lock)
    done = Sequence(0)
    stored_number = Atomic(0)


def take(vm: NumberVm) -> Any:
    yield vm.lock.lock()
    number = yield vm.next.load()
    yield vm.next.advance()
    yield vm.lock.unlock()
    return number


def stores_a_number(vm: NumberVm, ranges: Ranges) -> Steps:
    number = yield from take(vm)
    yield vm.mmu.zap(*ranges[0])
    yield vm.stored_number.store(number)


def adds_to_a_number(vm: NumberVm, ranges: Ranges) -> Steps:
    number = yield from take(vm)
    yield vm.mmu.zap(*ranges[0])
    yield vm.done.post(number + 1)


def compares_with_a_constant(vm: NumberVm, ranges: Ranges) -> Steps:
    number = yield from take(vm)
    if number >= 3:
        yield vm.stored_number.wait_until(7)
    yield vm.mmu.zap(*ranges[0])


def tests_a_number(vm: NumberVm, ranges: Ranges) -> Steps:
    number = yield from take(vm)
    if number:
        yield vm.mmu.zap(*ranges[0])


def looks_inside_a_number(vm: NumberVm, ranges: Ranges) -> Steps:
    number = yield from take(vm)
    odd = number.position % 2  # type: ignore[attr-defined]
    yield vm.done.post(number)
    yield vm.stored_number.store(odd)
    yield vm.mmu.zap(*ranges[0])


def hands_over_a_constant(vm: NumberVm, ranges: Ranges) -> Steps:
    yield vm.done.wait_reached(0)  # type: ignore[arg-type]
    yield vm.mmu.zap(*ranges[0])


def swallows(vm: GateVm, ranges: Ranges) -> Steps:
    yield vm.mmu.zap(*ranges[0])
    n = 0
    while True:
        try:
            n += 1
        except Exception:
            n = 0


def swallows_all(vm: GateVm, ranges: Ranges) -> Steps:
    yield vm.mmu.zap(*ranges[0])
    n = 0
    while True:
        try:
            n += 1
        except:  # noqa: E722
            n = 0


def exits(vm: GateVm, ranges: Ranges) -> Steps:
    yield vm.mmu.zap(*ranges[0])
    sys.exit(3)


def unlocks_finally(vm: GateVm, ranges: Ranges) -> Steps:
    yield vm.lock.lock()
    try:
        yield vm.mmu.zap(*ranges[0])
    finally:
        yield vm.lock.unlock()
