"""Protocols that nobody chose: of random programs, whose instructions may hold programs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mtrrzap.protocol import (
    ACQUIRE,
    FULL,
    RELAXED,
    RELEASE,
    Atomic,
    Protocol,
    Range,
    Sequence,
    Spinlock,
    Steps,
    Vm,
    ZapArray,
    ZapList,
)
from mtrrzap.protocol.registry import protocol

Program = tuple[Any, ...]


class RandomVm(Vm):
    lock = Spinlock()
    list = ZapList(guard=lock)
    array = ZapArray(guard=lock, entries=2)
    flag = Atomic(0)
    done = Sequence(0)


def made_of(program: Program) -> Protocol:  # noqa: C901 - one branch an instruction
    """Make a protocol that runs a program: instructions, of which some hold programs."""

    def call(vm: RandomVm, ranges: tuple[Range, ...]) -> Steps:
        yield from run(vm, ranges, program)
        yield vm.flag.load()

    def run(vm: RandomVm, ranges: tuple[Range, ...], block: Program) -> Steps:  # noqa: C901
        for verb, *rest in block:
            if verb == "alloc":
                if not (yield vm.memory.alloc()):
                    yield from run(vm, ranges, rest[0])
            elif verb == "locked":
                yield vm.lock.lock()
                yield from run(vm, ranges, rest[0])
                yield vm.lock.unlock()
            elif verb == "add":
                yield vm.list.add(*ranges[0])
            elif verb == "pop":
                if (entry := (yield vm.list.pop_first())) is not None:
                    yield vm.mmu.zap(*entry)
            elif verb == "queue":
                yield vm.array.add(*ranges[-1])
            elif verb == "take":
                for entry in (yield vm.array.take()):
                    yield vm.mmu.zap(*entry)
            elif verb == "zap":
                for entry in ranges:
                    yield vm.mmu.zap(*entry)
            elif verb == "store":
                yield vm.flag.store(rest[0], rest[1])
            elif verb == "if":
                if (yield vm.flag.load(rest[0])):
                    yield from run(vm, ranges, rest[1])
            elif verb == "try":
                if (yield vm.flag.cmpxchg(0, 1)) == 0:
                    yield from run(vm, ranges, rest[0])
            elif verb == "wait":
                yield vm.flag.wait_until(rest[0], rest[1])
            elif verb == "number":
                number = yield vm.done.advance()
                yield vm.done.wait_reached(number)

    return protocol(call, "random")


LOADS = st.sampled_from([RELAXED, ACQUIRE])
STORES = st.sampled_from([RELAXED, RELEASE, FULL])
LEAVES = st.one_of(
    st.sampled_from([("zap",), ("add",), ("pop",), ("queue",), ("take",)]),
    st.tuples(st.just("store"), st.integers(0, 1), STORES),
    st.tuples(st.just("wait"), st.integers(0, 1), LOADS),
)


def blocks(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    block = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(
        st.tuples(st.sampled_from(["alloc", "locked", "try"]), block),
        st.tuples(st.just("if"), LOADS, block),
    )


PROGRAMS = st.lists(st.recursive(LEAVES, blocks, max_leaves=6), min_size=1, max_size=5).map(tuple)
