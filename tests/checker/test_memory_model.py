"""Litmus tests: what x86 permits, and nothing else. A lost zap says that the end was reached."""

from __future__ import annotations

from mtrrzap.checker.explore import Search
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties.lost_zap import FLAG, LostZap
from mtrrzap.checker.scenario import scenario
from mtrrzap.protocol import Atomic, Range, Spinlock, Steps, Variable, Vm
from mtrrzap.protocol.registry import protocol

Ranges = tuple[Range, ...]


class LitmusVm(Vm):
    lock = Spinlock()
    who = Atomic(0)
    x = Atomic(0)
    y = Atomic(0)
    seen = Atomic(0)
    plain = Variable(0, guard=lock)


def reaches(call: object, memory: str) -> bool:
    world = scenario(protocol(call, "test"), 2, 1, memory=memory)  # type: ignore[arg-type]
    found = Search(Model(world, LostZap(world))).run()
    assert found.cut is None
    return FLAG in found.violations


def store_buffering(vm: LitmusVm, ranges: Ranges) -> Steps:
    """Each stores to its own and reads the other's: only a store buffer lets both read 0."""
    first = (yield vm.who.cmpxchg(0, 1)) == 0
    mine, other = (vm.x, vm.y) if first else (vm.y, vm.x)
    yield mine.store(1)
    if (yield other.load()) == 0 and (yield vm.seen.cmpxchg(0, 1)) == 1:
        return  # both read 0
    yield vm.mmu.zap(*ranges[0])


def with_a_fence(vm: LitmusVm, ranges: Ranges) -> Steps:
    """The same with a locked instruction in between, which empties the buffer."""
    first = (yield vm.who.cmpxchg(0, 1)) == 0
    mine, other = (vm.x, vm.y) if first else (vm.y, vm.x)
    yield mine.store(1)
    yield vm.who.cmpxchg(2, 2)
    if (yield other.load()) == 0 and (yield vm.seen.cmpxchg(0, 1)) == 1:
        return
    yield vm.mmu.zap(*ranges[0])


def message_passing(vm: LitmusVm, ranges: Ranges) -> Steps:
    """Stores become visible in order: who sees the second sees the first."""
    if (yield vm.who.cmpxchg(0, 1)) == 0:
        yield vm.x.store(1)
        yield vm.y.store(1)
    elif (yield vm.y.load()) == 1 and (yield vm.x.load()) == 0:
        return
    yield vm.mmu.zap(*ranges[0])


def own_store(vm: LitmusVm, ranges: Ranges) -> Steps:
    """A vCPU reads its own store before anybody else can."""
    if (yield vm.who.cmpxchg(0, 1)) == 0:
        yield vm.x.store(1)
        if (yield vm.x.load()) == 0:
            return
    yield vm.mmu.zap(*ranges[0])


def under_a_lock(vm: LitmusVm, ranges: Ranges) -> Steps:
    """What a lock guards is never seen half done."""
    yield vm.lock.lock()
    count = yield vm.plain.load()
    yield vm.plain.store(count + 1)
    yield vm.lock.unlock()
    if count == 0 and (yield vm.seen.cmpxchg(0, 1)) == 1:
        return  # both read 0
    yield vm.mmu.zap(*ranges[0])


def test_store_buffering_is_tso_and_not_sc() -> None:
    assert not reaches(store_buffering, "sc")
    assert reaches(store_buffering, "tso")


def test_a_locked_instruction_empties_the_buffer() -> None:
    assert not reaches(with_a_fence, "tso")


def test_tso_keeps_stores_in_order() -> None:
    assert not reaches(message_passing, "tso")


def test_a_vcpu_reads_its_own_stores() -> None:
    assert not reaches(own_store, "tso")


def without_the_lock(vm: LitmusVm, ranges: Ranges) -> Steps:
    """The same, unlocked: two vCPUs may read the same count."""
    count = yield vm.x.load()
    yield vm.x.store(count + 1)
    if count == 0 and (yield vm.seen.cmpxchg(0, 1)) == 1:
        return
    yield vm.mmu.zap(*ranges[0])


def test_a_lock_hands_over_what_it_guards() -> None:
    assert not reaches(under_a_lock, "tso")
    assert reaches(without_the_lock, "sc")
