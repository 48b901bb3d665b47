"""Protocols that lose a zap and try to hide it from a proof. Each says how many calls show it."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mtrrzap.protocol import (
    Atomic,
    Number,
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

# ruff: noqa: ARG001

Ranges = tuple[Range, ...]


class FlagVm(Vm):
    lock = Spinlock()
    flag = Atomic(0)


class SeqVm(Vm):
    lock = Spinlock()
    taken = Sequence(0, guard=lock)
    limit = Atomic(Number(6))


class CountVm(Vm):
    lock = Spinlock()
    count = Variable(0, lock)


def zap(vm: Vm, ranges: Ranges) -> Steps:
    for start, end in ranges:
        yield vm.mmu.zap(start, end)


# -- hidden state


def in_the_lock(vm: FlagVm, ranges: Ranges) -> Steps:
    """The 5th call does not zap; the object's own dictionary counts them."""
    yield vm.lock.lock()
    box = vars(vm.lock)
    box["calls"] = calls = box.get("calls", 0) + 1
    yield vm.lock.unlock()
    if calls % 5:
        yield from zap(vm, ranges)


def in_the_environment(vm: FlagVm, ranges: Ranges) -> Steps:
    """The 50th call does not zap; a module of Python's library counts them."""
    yield vm.lock.lock()
    calls = int(os.environ.get("MTRRZAP_CALLS", "0")) + 1
    os.environ["MTRRZAP_CALLS"] = str(calls)
    yield vm.lock.unlock()
    if calls % 50:
        yield from zap(vm, ranges)


# -- loops that end, by something that no variable of the frame shows


def by_a_method(vm: FlagVm, ranges: Ranges) -> Steps:
    pop = list(range(9)).pop
    while pop():
        yield vm.flag.load()


def by_a_class(vm: FlagVm, ranges: Ranges) -> Steps:
    class Rounds:
        done = 0

    while Rounds.done < 9:
        Rounds.done += 1
        yield vm.flag.load()


def by_a_module(vm: FlagVm, ranges: Ranges) -> Steps:
    module: Any = types.ModuleType("rounds")
    module.done = 0
    while module.done < 9:
        module.done += 1
        yield vm.flag.load()


def by_an_object(vm: FlagVm, ranges: Ranges) -> Steps:
    box = vars(Atomic())
    other = vm.flag if box else Atomic()
    box["start"] = 0
    while box["start"] < 9:
        box["start"] += 1
        yield other.load()


def by_what_is_read(vm: CountVm, ranges: Ranges) -> Steps:
    """The 5th call goes round no time."""
    yield vm.lock.lock()
    count = yield vm.count.load()
    yield vm.count.store(min(count + 1, 4))
    yield vm.lock.unlock()
    for _ in range(4 - count):
        yield from zap(vm, ranges)


# -- how many others there are


def impatient(vm: FlagVm, ranges: Ranges) -> Steps:
    """Gives up after 5 rounds of waiting: enough for one other vCPU."""
    rounds = 0
    while (yield vm.flag.cmpxchg(0, 1)) != 0:
        rounds += 1
        if rounds == 5:
            return
    yield from zap(vm, ranges)
    yield vm.flag.store(0)


def crowded(vm: FlagVm, ranges: Ranges) -> Steps:
    """Needs 6 vCPUs inside at the same time."""
    inside = yield vm.flag.load()
    while (seen := (yield vm.flag.cmpxchg(inside, min(inside + 1, 6)))) != inside:
        inside = seen
    if inside < 5:
        yield from zap(vm, ranges)
    while (seen := (yield vm.flag.cmpxchg(inside, max(inside - 1, 0)))) != inside:
        inside = seen


def counts_for_ever(vm: CountVm, ranges: Ranges) -> Steps:
    """The 1000th call does not zap."""
    yield vm.lock.lock()
    count = yield vm.count.load()
    yield vm.count.store(count + 1)
    yield vm.lock.unlock()
    if count != 1000:
        yield from zap(vm, ranges)


# -- allocation


def after_three_failures(vm: FlagVm, ranges: Ranges) -> Steps:
    for _ in range(3):
        if (yield vm.memory.alloc()):
            yield from zap(vm, ranges)
            return


# -- sequences that mean more than an order


def numbered(what: Callable[[Any], bool]) -> Callable[[SeqVm, Ranges], Steps]:
    def call(vm: SeqVm, ranges: Ranges) -> Steps:
        yield vm.lock.lock()
        mine = yield vm.taken.load()
        if what(mine):
            yield from zap(vm, ranges)
        yield vm.taken.advance()
        yield vm.lock.unlock()

    return call


by_position = numbered(lambda mine: bool(mine.position % 4 != 3))
by_hidden_position = numbered(lambda mine: bool(mine._position % 4 != 3))
by_text = numbered(lambda mine: str(mine) != "9")
by_hash = numbered(lambda mine: bool(hash(mine) % 7 != hash(Number(9)) % 7))
by_constant = numbered(lambda mine: bool(mine < Number(10)))


def by_a_waited_constant(vm: SeqVm, ranges: Ranges) -> Steps:
    yield vm.lock.lock()
    if not (yield vm.taken.reached(Number(5))):
        yield from zap(vm, ranges)
    yield vm.taken.advance()
    yield vm.lock.unlock()


def by_an_initial_value(vm: SeqVm, ranges: Ranges) -> Steps:
    limit = yield vm.limit.load()
    yield vm.lock.lock()
    if not (yield vm.taken.reached(limit)):
        yield from zap(vm, ranges)
    yield vm.taken.advance()
    yield vm.lock.unlock()


class Wrapping(Sequence):
    """Two bits wide."""

    symmetric = True
    verbs = Sequence.verbs

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:
        if operation.verb == "load":
            return ((value, int(str(value)) % 4),)
        return super().effect(value, operation, vcpu)


class WrapVm(Vm):
    lock = Spinlock()
    taken = Wrapping(0, guard=lock)


def wraps(vm: WrapVm, ranges: Ranges) -> Steps:
    yield vm.lock.lock()
    taken = yield vm.taken.load()
    yield vm.taken.advance()
    yield vm.lock.unlock()
    if taken != 3:
        yield from zap(vm, ranges)


# -- objects that are not what they say


class Own(SharedObject):
    verbs = {"use": 0}  # noqa: RUF012

    @property
    def initial(self) -> Any:
        return None

    def use(self) -> Operation:
        return self._operation("use")


class Owner(Own):
    """Says that it is symmetric, and knows the first who used it."""

    symmetric = True

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        return ((vcpu, True),) if value is None else ((value, value == vcpu),)


class Coin(Own):
    """Has two outcomes and says that it has one."""

    symmetric = True

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        return ((value, True), (value, False))


@dataclass(frozen=True)
class Uses:
    count: int = field(compare=False)


class Counter(Own):
    """All of its values are equal, and they are not the same."""

    symmetric = True

    @property
    def initial(self) -> Any:
        return Uses(0)

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        return ((Uses(min(value.count + 1, 2)), value.count < 2),)


class Once(Own):
    """``(False,) == (0,)``."""

    symmetric = True

    @property
    def initial(self) -> Any:
        return (False,)

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        return (((0,), value[0] is False),)


class OwnerVm(Vm):
    own: Any = Owner()


class CoinVm(Vm):
    own: Any = Coin()


class CounterVm(Vm):
    own: Any = Counter()


class OnceVm(Vm):
    own: Any = Once()


def if_it_says_so(vm: Any, ranges: Ranges) -> Steps:
    if (yield vm.own.use()):
        yield from zap(vm, ranges)


def asks_an_owner(vm: OwnerVm, ranges: Ranges) -> Steps:
    yield from if_it_says_so(vm, ranges)


def asks_a_coin(vm: CoinVm, ranges: Ranges) -> Steps:
    yield from if_it_says_so(vm, ranges)


def asks_a_counter(vm: CounterVm, ranges: Ranges) -> Steps:
    yield from if_it_says_so(vm, ranges)


def asks_once(vm: OnceVm, ranges: Ranges) -> Steps:
    yield from if_it_says_so(vm, ranges)


CALLS: dict[str, Any] = {
    name: call
    for name, call in list(globals().items())
    if isinstance(call, types.FunctionType)
    and call.__module__ == __name__
    and name not in ("zap", "numbered", "if_it_says_so")
}
