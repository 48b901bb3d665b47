"""Protocols for the translation: one with an object of its own, and what has no C."""

from typing import Any

from mtrrzap.emit.objects import Field, Operation, Type
from mtrrzap.protocol import (
    ACQUIRE,
    Atomic,
    Number,
    Outcome,
    Range,
    Sequence,
    SharedObject,
    Spinlock,
    Steps,
    Variable,
    Vm,
    ZapList,
)


class Counter(SharedObject):
    """How many vCPUs are in; a user's own object, with its C beside it."""

    c = Field(
        "int {name};",
        operations={
            "enter": Operation("atomic_enter({obj})", Type.INT),
            "leave": Operation("atomic_leave({obj}, {0})"),
        },
    )
    verbs = {"enter": 0, "leave": 1}  # noqa: RUF012

    @property
    def initial(self) -> int:
        return 0

    def enter(self) -> Any:
        return self._operation("enter")

    def leave(self, times: int) -> Any:
        return self._operation("leave", times)

    def effect(self, value: Any, operation: Any, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        if operation.verb == "enter":
            return ((value + 1, value),)
        return ((value - operation.args[0], None),)


class OwnVm(Vm):
    lock = Spinlock()
    list = ZapList(guard=lock)
    plain = Variable(0, guard=lock)
    flag = Atomic(False)
    seq = Sequence(1)
    counter = Counter()


def own(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    """Every statement that has C.

    The second paragraph.
    """
    inside = yield vm.counter.enter()
    total = 0
    for each in ranges:
        total += 2
        start, end = each
        if inside == 0 and not (yield vm.flag.load(ACQUIRE)):
            yield vm.mmu.zap(start, end)
        elif (yield vm.plain.load()) >= 3:
            yield vm.mmu.zap(*each)
            break
        else:
            yield from twice(vm, start, end)
    while not (yield from ready(vm)):
        pass
    yield vm.counter.leave(total - 1)


def twice(vm: OwnVm, start: int, end: int) -> Steps:
    """Zap the range, and what is before it."""
    yield vm.mmu.zap(start, end)  # first its own
    yield vm.mmu.zap(0, start + 1)


def ready(vm: OwnVm) -> Any:
    mine = yield vm.seq.load()
    return (yield vm.seq.reached(mine))


def recursive(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    yield from recursive(vm, ranges)


def comprehension(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    for start, end in sorted(ranges):
        yield vm.mmu.zap(start, end)


def arithmetic(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    mine: Number = yield vm.seq.load()
    yield vm.seq.wait_reached(mine + 1)  # type: ignore[operator]


def nameless(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    if (yield vm.list.pop_first()) is None:
        return


def two_types(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    value = 0
    value = yield vm.flag.load()
    yield vm.flag.store(value)


def attempt(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    try:
        yield vm.lock.lock()
    finally:
        yield vm.lock.unlock()


def no_order(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    yield vm.seq.post((yield vm.seq.load()), order=ORDERS[0])


ORDERS = (ACQUIRE,)


def hidden(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    lock = vm.lock
    yield lock.lock()


def word_of_c(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    kvm = yield vm.flag.load()
    yield vm.flag.store(kvm)


def too_big(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    yield vm.plain.store(1 << 32)


def big(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    # a comment above a statement, so long that it takes more than one of the lines of C
    yield vm.mmu.zap(1 << 31, 1 << 52)


def unset(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    for start, end in ranges:
        yield vm.mmu.zap(start, end)
    yield vm.mmu.zap(start, end)


def unset_in_a_branch(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    if (yield vm.flag.load()):
        value = yield vm.plain.load()
    else:
        other = yield vm.plain.load()
        value = other
    yield vm.plain.store(value)
    yield vm.plain.store(other)


def always_set(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    if (yield vm.flag.load()):
        return
    elif (yield vm.flag.load()):
        value = 1
    else:
        value = 2
    yield vm.plain.store(value)
