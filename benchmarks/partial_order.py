"""What partial-order reduction would bring a fixed number of vCPUs that ask for different ranges.

    python benchmarks/partial_order.py [--most STATES]

*Reduced*: the search goes on with one vCPU alone wherever nobody else can meet its next step. That
is where the step is on an object that a lock guards which it holds; releases a lock; is an
allocation or ``cpu_relax()``; or is on an object that no other vCPU uses any more. It must leave
what *lost zap* remembers as it is, and be in no loop without a zap. To know who still uses what,
the whole search goes first, so this is the most that such a reduction can bring. *Kept*: besides,
states in which one vCPU goes on alone are passed through and not kept. vCPUs that ask *apart* ask
for different ranges; those that ask *alike* are interchangeable, in all three searches.
"""

from __future__ import annotations

import argparse
from collections import deque
from functools import cache
from typing import NamedTuple

from mtrrzap.checker.graph import components
from mtrrzap.checker.memory_model import LocalState
from mtrrzap.checker.model import Model, State
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.scenario import Request, scenario
from mtrrzap.checker.stepper import Move, Stepper
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS, Allocator, Cpu, Mmu, Protocol, Range
from mtrrzap.protocol.meaning import is_lock

APART: tuple[Request, ...] = (
    (Range(0, 0x100),),
    (Range(0x80000, 0x100000),),
    (Range(0x100000, 0x400000),),
    (ALL_GFNS,),
)
SIZES = ((2, 1), (2, 2), (3, 1), (3, 2), (4, 1))
LINE = "{:11} {:>5} {:6} {:>10} {:>10} {:>10} {:>8} {:>6} {:>6}"


class Counts(NamedTuple):
    """States kept, steps made, and the flags that they raise."""

    states: int
    steps: int
    flags: int


class Reduced:
    """Two searches of one scenario, the second of them reduced."""

    def __init__(self, protocol: Protocol, vcpus: int, requests: int, *, apart: bool) -> None:
        ranges = APART if apart else APART[-1:]
        world, _ = scenario(protocol, vcpus, requests, ranges=ranges, alloc_fails=True).together()
        self.model = Model(world, LostZap(world))
        self.stepper = Stepper(self.model)
        self.after: dict[int, set[int]] = {}
        self.loop: dict[int, int] = {}

    def count(self, most: int, *, reduced: bool = False, kept: bool = False) -> Counts:
        """Return how many states there are, steps, and the flags raised; stop after ``most``."""
        first = self.stepper.canonical(self.model.initial)
        seen, queue, flags, steps = {first}, deque([first]), 0, 0
        while queue and len(seen) < most:
            state = queue.popleft()
            moves = list(self.stepper.moves(state))
            for move in (reduced and self.alone(state, moves)) or moves:
                flags |= move.flags
                steps += 1
                self.after.setdefault(state[move.vcpu], set()).add(move.after[move.vcpu])
                after = move.after
                while kept and len(on := self.alone(after, list(self.stepper.moves(after)))) == 1:
                    after, steps = on[0].after, steps + 1
                after = self.stepper.canonical(after)
                if after not in seen:
                    seen.add(after)
                    queue.append(after)
        if not reduced:
            count, none = len(self.model.locals), set[int]()
            go_on = {at: after for at, after in self.after.items() if not self.zaps_or_locks(at)}
            found = components(count, lambda at: go_on.get(at, none))
            self.loop = {at: number for number, loop in enumerate(found) for at in loop}
        return Counts(len(seen), steps, flags)

    def zaps_or_locks(self, local: int) -> bool:
        """Say whether the next step of a local state is one that is never made alone."""
        operation = self.model.operation(self.model.locals.items[local])
        return operation is not None and (isinstance(operation.target, Mmu) or is_lock(operation))

    def alone(self, state: State, moves: list[Move]) -> list[Move]:
        """Return the moves of a vCPU that may go on alone, if there is one."""
        for vcpu in range(self.model.vcpus):
            mine = [move for move in moves if move.vcpu == vcpu]
            on = all(self.loop[move.after[vcpu]] != self.loop[state[vcpu]] for move in mine)
            hidden = all(not move.flags and move.after[-1] == state[-1] for move in mine)
            if mine and on and hidden and self.nobody_meets(state, vcpu):
                return mine
        return []

    def nobody_meets(self, state: State, vcpu: int) -> bool:
        local: LocalState = self.model.locals.items[state[vcpu]]
        operation = self.model.operation(local)
        assert operation is not None
        target = operation.target
        if is_lock(operation, "unlock") or isinstance(target, Allocator | Cpu):
            return True
        if target.guard in local.held:
            return True
        others = state[:vcpu] + state[vcpu + 1 : self.model.vcpus]
        return all(target not in self.uses(other) for other in others)

    @cache  # noqa: B019 - as long as the benchmark
    def uses(self, local: int) -> frozenset[object]:
        """Return the objects that a vCPU may still use."""
        found, waiting = {local}, [local]
        while waiting:
            new = self.after.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        operations = (self.model.operation(self.model.locals.items[each]) for each in found)
        return frozenset(each.target for each in operations if each is not None)


def main(most: int) -> None:
    """Print the table."""
    print(
        LINE.format(
            "protocol", "vCPUs", "ask", "states", "reduced", "kept", "reduced", "kept", "steps"
        )
    )
    for name, protocol in PROTOCOLS.items():
        for vcpus, requests in SIZES:
            for apart in (True, False):
                search = Reduced(protocol, vcpus, requests, apart=apart)
                full = search.count(most)
                if full.states >= most:
                    continue
                fewer = search.count(most, reduced=True)
                kept = search.count(most, reduced=True, kept=True)
                assert full.flags == fewer.flags == kept.flags, (name, vcpus, requests)
                size, ask = f"{vcpus} x {requests}", "apart" if apart else "alike"
                counts = [f"{each:,}" for each in (full.states, fewer.states, kept.states)]
                ratios = [f"{full.states / each.states:.2f}" for each in (fewer, kept)]
                steps = f"{full.steps / kept.steps:.2f}"
                print(LINE.format(name, size, ask, *counts, *ratios, steps))


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--most", type=int, default=300_000)
    main(options.parse_args().most)
