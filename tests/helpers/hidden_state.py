"""Protocols that keep state where the engine does not look for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mtrrzap.protocol import Atomic, Range, Steps, Vm

Ranges = tuple[Range, ...]
SCRATCH: list[Range] = []
COUNT = 0
NOTES = SimpleNamespace(last=None)
BUSY: set[int] = set()


class ScratchVm(Vm):
    flag = Atomic(0)
    todo: list[Range] = []  # noqa: RUF012


class Scratch:
    items: dict[int, Range] = {}  # noqa: RUF012


def writes_a_global_list(vm: ScratchVm, ranges: Ranges) -> Steps:
    SCRATCH[:] = [(each[0], each[1] + len(SCRATCH)) for each in ranges]
    yield vm.flag.load()
    for each in tuple(SCRATCH):
        yield vm.mmu.zap(*each)


def writes_a_global_number(vm: ScratchVm, ranges: Ranges) -> Steps:
    global COUNT
    COUNT += 1
    yield vm.mmu.zap(*ranges[0])


def writes_a_class(vm: ScratchVm, ranges: Ranges) -> Steps:
    yield vm.flag.load()
    ScratchVm.current = ranges  # type: ignore[attr-defined]
    yield vm.mmu.zap(*ranges[0])


def writes_a_list_of_the_vm(vm: ScratchVm, ranges: Ranges) -> Steps:
    yield vm.flag.load()
    vm.todo.append(ranges[0])
    yield vm.mmu.zap(*ranges[0])


def writes_another_class(vm: ScratchVm, ranges: Ranges) -> Steps:
    yield vm.flag.load()
    Scratch.items[len(Scratch.items)] = ranges[0]
    yield vm.mmu.zap(*ranges[0])


def writes_an_instance(vm: ScratchVm, ranges: Ranges) -> Steps:
    yield vm.flag.load()
    NOTES.last = (NOTES.last, 1)
    yield vm.mmu.zap(*ranges[0])


def writes_a_default(vm: ScratchVm, ranges: Ranges, *, seen: list[int] = []) -> Steps:  # noqa: B006
    seen.append(1)
    yield vm.mmu.zap(*ranges[0])


def writes_itself(vm: ScratchVm, ranges: Ranges) -> Steps:
    this: Any = writes_itself
    this.calls = getattr(this, "calls", 0) + 1
    yield vm.mmu.zap(*ranges[0])


def sets_and_clears(vm: ScratchVm, ranges: Ranges) -> Steps:
    yield vm.flag.load()
    if BUSY:
        return
    BUSY.add(1)
    try:
        yield vm.mmu.zap(*ranges[0])
    finally:
        BUSY.clear()


def closed() -> Any:
    shared: list[int] = []

    def closed_over(vm: ScratchVm, ranges: Ranges) -> Steps:
        shared.append(1)
        yield vm.mmu.zap(*ranges[0])

    return closed_over
