"""Verify a certificate's views; ``any_number.certificate`` says how they are written.

A *view* says that two vCPUs may be in two states at the same time, under a *control*. Whatever any
number of vCPUs reach, each two of them are a view of the certificate, because

- two idle vCPUs at the start are one;
- three vCPUs, each two of them a view, are so again when one of them makes a step, and more than
  three never matter: a step moves one vCPU, and a view shows two;
- they are so again when the watched vCPU makes a step. It makes one call while all others go on.

And no view shows anything bad. What a call must not wait for is seen by ``waits``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

from mtrrzap.checker.verifier.vcpu import BEGINS, ENDS, IDLE, CertifiedVcpu, Step, expect
from mtrrzap.checker.verifier.waits import Waits
from mtrrzap.protocol import Protocol
from mtrrzap.protocol.meaning import sync, synchronises

NEEDS = {
    **dict.fromkeys(("lost zap", "deadlock", "unlocked access", "capacity"), ()),
    "ordering": ("lost zap",),
    "starvation": ("lost zap", "deadlock"),
}
"""The properties that a certificate can show, and what each rests on."""

LARGEST = 1 << 26
"""Views of a certificate, each counted from both sides."""

NOBODY, ZAPS = -1, -2
"""What a control watches: nobody, or how many zaps a call sits through; else a frame's number."""

COUNTS, KNOWS = 1, 2
"""What is remembered of a vCPU while a call for a frame is watched.

A zap *counts* if it covers the frame and began after the call. Who comes after the end of one, in
the order of memory, *knows*. The call must not return before it knows.
"""


class Control(NamedTuple):
    """The objects' values, what is watched, the state of the watched vCPU, and a memory.

    The memory of a frame is which objects publish that a zap which counts has ended, as bits; the
    bit after these says that one has. Else it is how many zaps the call has sat through.
    """

    values: int
    watched: int
    state: int
    memory: int


Graph = dict[int, int]
"""For each node who may be beside it, as bits. A node is a state and what is remembered of it."""


class Verifier:
    """One certificate, while it is verified."""

    def __init__(self, text: dict[str, Any], protocol: Protocol) -> None:
        self.vcpu, self.holds = CertifiedVcpu(text, protocol), tuple(text["holds"])
        self.targets = [each if synchronises(each) else None for each in self.vcpu.objects]
        self.nodes = [(state, flags) for state, flags in text["nodes"]]
        self.number_of = {each: number for number, each in enumerate(self.nodes)}
        self.rows = [int(each, 16) for each in text["rows"]]
        expect(min(self.rows, default=0) >= 0, "a negative row")
        self.frames, self.bound = text["frames"], text["bound"]
        counted = [ZAPS] if "starvation" in self.holds else []
        self.calls = [  # what is watched of a call for each request
            [i for i, (_, requests) in enumerate(self.frames) if request in requests] + counted
            for request in range(len(self.vcpu.requests))
        ]
        self.size = 0
        self.shifted: dict[tuple[int, int], int] = {}
        self.views = {Control(*at): self.graph(graph) for *at, graph in text["views"]}
        clauses = [(values, self.rows[row]) for values, row in text["somebody"]]
        self.waits = Waits(self.vcpu, clauses, text["ranks"])

    def graph(self, text: list[list[int]]) -> Graph:
        """Return a graph; see that who is beside whom is mutual."""
        graph = {node: self.rows[row] for node, row in text}
        self.size += sum(row.bit_count() for row in graph.values())
        expect(self.size <= LARGEST and max(graph) < len(self.nodes), "too many views")
        for node, row in graph.items():
            mutual = all(graph.get(other, 0) >> node & 1 for other in bits(row))
            expect(mutual, "a view has one side only")
        return graph

    def verify(self) -> tuple[str, ...]:
        """See that everything is as it must be, and return the properties."""
        expect(self.holds, "it shows nothing")
        for name in self.holds:
            expect(name in NEEDS and {*NEEDS[name]} <= {*self.holds}, f"cannot show {name}")
        start, _ = self.vcpu.counted(tuple(each.initial for each in self.vcpu.objects))
        self.need(Control(start, NOBODY, IDLE, 0), IDLE, 1 << IDLE, 0)
        for control, graph in self.views.items():
            self.check_closed(control, graph)
            if control.watched == NOBODY:
                expect(all(self.nodes[node] == (node, 0) for node in graph), "nodes are states")
                if "deadlock" in self.holds:
                    self.waits.check_somebody(control.values, graph, start)
                if "starvation" in self.holds:
                    self.waits.check_waits(control.values, graph)
        if "lost zap" in self.holds:
            self.check_frames()
        self.vcpu.check_again()
        return self.holds

    def check_closed(self, control: Control, graph: Graph) -> None:
        """See that every step leads to views that are there."""
        for then, by in self.own(control):
            for node, row in graph.items():
                self.need(then, node, row, by)
        for node, row in graph.items():
            for then, moved, by in self.others(control, node):
                for other in bits(row):
                    self.need(then, other, row & graph[other], by, 1 << moved)

    def need(self, control: Control, node: int, row: int, by: int, moved: int = 0) -> None:
        """See that a node may be beside a row, all shifted by ``by``, and beside who moved."""
        there = self.views.get(control, {}).get(self.shift(1 << node, by).bit_length() - 1, 0)
        if (self.shift(row, by) | moved) & ~there:
            expect(False, f"a view is missing: {control}, {self.nodes[node]}")

    def shift(self, row: int, by: int) -> int:
        """Return a row after a step that shifts all numbers."""
        if by and (row, by) not in self.shifted:
            nodes = (self.nodes[node] for node in bits(row))
            after = {self.node(self.vcpu.shift(state, by), flags) for state, flags in nodes}
            self.shifted[row, by] = sum(1 << node for node in after)
        return self.shifted[row, by] if by else row

    def node(self, state: int, flags: int) -> int:
        """Return the number of a node; one that is not there cannot be in any view."""
        expect((state, flags) in self.number_of, f"a node is missing: {state}")
        return self.number_of[state, flags]

    def own(self, control: Control) -> Iterator[tuple[Control, int]]:
        """Yield what the watched vCPU does; while nobody is watched, every call that may be."""
        values, watched, state, memory = control
        for local, steps in self.vcpu.steps(values, state):
            begins = self.calls[local.request] if watched == NOBODY else [watched]
            for what, step in product(begins, steps):
                flags = COUNTS if step.phase == ENDS and self.covers(what, step) else 0
                after, flags = self.remembered(what, memory, flags, step)
                if not flags & KNOWS:  # else nothing more can go wrong
                    expect(what == ZAPS or step.state != IDLE, "a watched call returns too early")
                    if step.state != IDLE:
                        yield Control(step.values, what, step.state, after), step.shift

    def others(self, control: Control, node: int) -> Iterator[tuple[Control, int, int]]:
        """Yield the steps of another vCPU: control and node after it, and the shift."""
        values, watched, state, before = control
        counted = watched != ZAPS or self.vcpu.waits(values, state)
        for _, steps in self.vcpu.steps(values, self.nodes[node][0]):
            for step in steps:
                memory, flags = before, self.nodes[node][1]
                if counted:
                    memory, flags = self.remembered(watched, memory, flags, step)
                if watched >= 0 and "ordering" not in self.holds and memory >> len(self.targets):
                    continue  # the frame is zapped, and nothing more is claimed
                then = Control(step.values, watched, self.vcpu.shift(state, step.shift), memory)
                flags &= ~KNOWS if step.state == IDLE else ~0
                yield then, self.node(step.state, flags), step.shift

    def covers(self, watched: int, step: Step) -> bool:
        """Say whether a step of a zap is of one that covers the watched frame."""
        start, end = step.operation.args
        return bool(watched >= 0 and start <= self.frames[watched][0] < end)

    def remembered(self, watched: int, memory: int, flags: int, step: Step) -> tuple[int, int]:
        """Return the memory, and what is remembered of the vCPU that makes a step, after it."""
        if watched == ZAPS:
            memory += step.phase == ENDS
            expect(memory <= self.bound, "a call sits through more zaps")
        elif step.phase == BEGINS:
            flags |= COUNTS if self.covers(watched, step) else 0
        elif step.phase == ENDS and flags & COUNTS:
            memory, flags = memory | 1 << len(self.targets), KNOWS
        elif watched != NOBODY and any(each is step.operation.target for each in self.targets):
            at = self.vcpu.number(step.operation.target)
            does = sync(step.operation, step.result, at)
            if does and does.acquires and memory >> at & 1:
                flags |= KNOWS
            if does and does.stores:
                memory &= ~(1 << at)
            if does and (does.releases or does.exchanges) and flags & KNOWS:
                memory |= 1 << at
        return memory, flags

    def check_frames(self) -> None:
        """See that for each frame of a request one is watched that is zapped no earlier.

        So it is if every zap that covers the watched one covers the other, too.
        """
        zaps = self.vcpu.zaps
        for request, parts in enumerate(self.vcpu.requests):
            watched = [self.frames[i][0] for i in self.calls[request] if i >= 0]
            for low in {end for each in (*zaps, *parts) for end in each}:
                if any(start <= low < end for start, end in parts):
                    stands = [all(s <= low < e for s, e in zaps if s <= f < e) for f in watched]
                    expect(any(stands), f"no watched frame stands for {low:#x}")


def bits(row: int) -> Iterator[int]:
    """Yield the positions of the bits that are set."""
    while row:
        yield (row & -row).bit_length() - 1
        row &= row - 1
