"""Verify a certificate: a proof for every number of vCPUs, as ``any_number.certificate`` describes.

It sees that

- the start is a view, and a call begins in every view in which it can;
- the views are closed: whatever the watched vCPU, one of the two others, or a third one does next
  leads to views that are there;
- none of them shows anything bad;
- the watched frames stand for all frames of the requests;
- for *deadlock*, every clause about somebody follows from clauses before each step.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from mtrrzap.checker.verifier.vcpu import IDLE, CertifiedVcpu, RejectedError, Step, expect
from mtrrzap.errors import UserError
from mtrrzap.protocol import (
    ACQUIRE,
    FULL,
    RELEASE,
    Allocator,
    Atomic,
    Cpu,
    Mmu,
    Protocol,
    Sequence,
    Spinlock,
)
from mtrrzap.reading import whole

FORMAT = "mtrrzap certificate 1"
_MIB = 16
"""The size of what is read, at most; the largest that is known has 1.4 MiB."""
CAN_SHOW = {"lost zap", "deadlock", "unlocked access", "capacity", "ordering"}

Graph = dict[int, int]
"""For each node who may be beside it, as bits."""

Control = tuple[int, int, frozenset[int], bool]
"""Values, the watched vCPU's state, the objects that publish, whether a zap that counts ended."""


def read(path: Path) -> dict[str, Any]:
    """Read a certificate file.

    Raises:
        UserError: if it cannot be read, or is no certificate.
    """
    data = whole(path, "name a certificate", mib=_MIB)
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(_MIB << 20)
        found = json.loads(data)
    except (ValueError, OSError, EOFError, RecursionError, zlib.error) as error:
        raise UserError("is not a certificate", place=str(path)) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError("is not a certificate", place=str(path), mend=f"expected {FORMAT!r}")
    return found


def verify(certificate: dict[str, Any], protocol: Protocol) -> tuple[str, ...]:
    """Return the properties that the certificate proves for every number of vCPUs.

    Raises:
        RejectedError: if it does not prove all that it says.
    """
    try:
        return Verifier(certificate, protocol).verify()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RejectedError(f"malformed: {error!r}") from error


class Verifier(CertifiedVcpu):
    """One certificate, while it is verified."""

    def __init__(self, certificate: dict[str, Any], protocol: Protocol) -> None:
        super().__init__(certificate, protocol)
        self.shifting = Shifting(self.shift)

    def verify(self) -> tuple[str, ...]:
        """See that everything is as it must be, and return the properties."""
        unknown = {*self.holds} - {
            "lost zap", "deadlock", "unlocked access", "capacity", "ordering",
        }  # fmt: skip
        expect(not unknown, f"cannot show {', '.join(sorted(unknown))}")
        views = {values: self.graph(graph) for values, graph in self.text["views"]}
        start, _ = self.counted(tuple(each.initial for each in self.objects))
        self.expect_edges(views, start, IDLE, 1 << IDLE)
        for values, graph in views.items():
            self.closed(views, values, graph, self.plain_moves, self.shifting)
        if "deadlock" in self.holds:
            self.check_somebody(views, start)
        if {"lost zap", "ordering"} & {*self.holds}:
            for watched in self.text["watched"]:
                Watched(self, watched).verify(views)
            self.check_frames()
        return self.holds

    def graph(self, text: list[list[int]]) -> dict[int, int]:
        """Return a graph; see that who is beside whom is mutual."""
        graph = {node: self.rows[row] for node, row in text}
        for node, row in graph.items():
            for other in bits(row):
                expect(graph.get(other, 0) >> node & 1 == 1, "a view has one side only")
        return graph

    def plain_moves(self, values: int, node: int) -> list[tuple[Any, int, int]]:
        """Return the moves of a vCPU beside which nobody is watched."""
        return [(step.values, step.state, step.shift) for step in self.steps(values, node)]

    def closed(
        self,
        views: dict[Any, dict[int, int]],
        control: Any,
        graph: dict[int, int],
        moves: Callable[[Any, int], list[tuple[Any, int, int]]],
        shifting: Shifting,
    ) -> None:
        """See that every move of another vCPU leads to views that are there."""
        for node, row in graph.items():
            for after, moved, by in moves(control, node):
                for other in bits(row):
                    beside = shifting.row(graph[other] & row, by) | 1 << moved
                    self.expect_edges(views, after, shifting.node(other, by), beside)

    def expect_edges(
        self, views: dict[Any, dict[int, int]], control: Any, node: int, row: int
    ) -> None:
        """See that a node may be beside each of a row; the other side is seen elsewhere."""
        there = views.get(control, {}).get(node, 0)
        expect(row & ~there == 0, f"a view is missing: {control}, {node}")

    def check_somebody(self, views: dict[int, dict[int, int]], start: int) -> None:
        """See that somebody can move whenever one waits."""
        clauses: dict[int, list[int]] = {}
        for values, row in self.text["somebody"]:
            clauses.setdefault(values, []).append(self.rows[row])
        expect(all(each >> IDLE & 1 for each in clauses.get(start, [])), "somebody at the start")

        def follows(values: int, wanted: int) -> bool:
            return bool(wanted & 1) or any(not c & ~wanted for c in clauses.get(values, []))

        for values, graph in views.items():
            able = {node for node in graph if self.can_move(values, node)}
            begun = {i for i in range(len(self.requests)) if self.can_call(values, i)}
            if len(begun) < len(self.requests) or able != {*graph}:
                moving = sum(1 << node for node in able if node != IDLE)
                expect(follows(values, moving), "nobody may be able to move")
            for node, row in graph.items():
                for step in self.steps(values, node):
                    for wanted in clauses.get(step.values, []):
                        if wanted >> step.state & 1:
                            continue
                        before = sum(
                            1 << other
                            for other in graph
                            if other != node
                            and not (row >> other & 1 and self.stays_out(wanted, other, step))
                        )
                        expect(follows(values, before), "somebody may have left")

    def stays_out(self, wanted: int, other: int, step: Step) -> bool:
        """Say whether a vCPU beside the one that makes a step is not among the wanted after it."""
        return not wanted >> self.shift(other, step.shift) & 1

    def can_move(self, values: int, state: int) -> bool:
        """Say whether a vCPU in a state can make a step, whichever member it is in."""
        if state == IDLE:
            return bool(self.steps(values, IDLE))
        return all(any(True for _ in self.local_steps(values, m)) for m in self.states[state])

    def can_call(self, values: int, request: int) -> bool:
        """Say whether the first step of a call can be made."""
        return any(True for _ in self.local_steps(values, self.run(request, (), 0)))

    def check_frames(self) -> None:
        """See that for each frame of a request one is watched that is zapped no earlier."""
        ends = {end for each in self.requests for part in each for end in part}
        pieces = list(pairwise(sorted(ends | {end for zap in self.zaps for end in zap})))
        for i, request in enumerate(self.requests):
            if not any(self.can_call(values, i) for values, _ in self.text["views"]):
                continue
            watched = [each["frame"] for each in self.text["watched"] if i in each["requests"]]
            for low, high in pieces:
                if any(start <= low and high <= end for start, end in request):
                    expect(
                        any(self.stands_for(frame, low) for frame in watched),
                        f"no watched frame stands for {low:#x} of request {i}",
                    )

    def stands_for(self, frame: int, other: int) -> bool:
        """Say whether every zap that covers ``frame`` covers ``other``."""
        return all(s <= other < e for s, e in self.zaps if s <= frame < e)


class Watched:
    """The views of calls that are watched for one frame."""

    def __init__(self, verifier: Verifier, text: dict[str, Any]) -> None:
        self.by, self.frame, self.requests = verifier, text["frame"], text["requests"]
        self.others = [tuple(each) for each in text["others"]]
        self.number_of = {each: i for i, each in enumerate(self.others)}
        self.ordering = "ordering" in verifier.holds
        self.shifting = Shifting(self.shift)
        self.views = {
            (values, state, frozenset(publishes), ended): verifier.graph(graph)
            for values, state, publishes, ended, graph in text["views"]
        }

    def verify(self, anonymous: dict[int, dict[int, int]]) -> None:
        """See that calls begin, that the views are closed, and that none returns too early."""
        by = self.by
        for request in self.requests:
            expect(any(s <= self.frame < e for s, e in by.requests[request]), "a frame of another")
        for values, graph in anonymous.items():
            for request in self.requests:
                self.check_call(values, graph, request)
        for control, graph in self.views.items():
            for step in by.steps(control[0], control[1]):
                then = self.after(control, step)
                if then is not None:
                    for node, row in graph.items():
                        beside = self.shifting.row(row, step.shift)
                        by.expect_edges(
                            self.views, then, self.shifting.node(node, step.shift), beside
                        )
            by.closed(self.views, control, graph, self.moves, self.shifting)

    def check_call(self, values: int, graph: dict[int, int], request: int) -> None:
        """See that a call can begin beside whoever may be there while its vCPU is idle."""
        by, present = self.by, graph.get(IDLE, 0)
        for step in by.local_steps(values, by.run(request, (), 0)):
            then = self.after((values, IDLE, frozenset(), False), step)
            if then is not None:
                for node in bits(present):
                    row = by.shifting.row(graph[node] & present, step.shift)
                    beside = sum(1 << self.node(each, False, False) for each in bits(row))
                    moved = self.node(by.shift(node, step.shift), False, False)
                    by.expect_edges(self.views, then, moved, beside)

    def node(self, state: int, counts: bool, knows: bool) -> int:
        """Return the number of a node; one that is not there cannot be in any view."""
        found = self.number_of.get((state, counts, knows))
        expect(found is not None, f"a node is missing: {state}")
        assert found is not None
        return found

    def shift(self, node: int, by: int) -> int:
        """Return a node after the numbers are counted from ``by`` on."""
        state, counts, knows = self.others[node]
        return self.node(self.by.shift(state, by), counts, knows) if by else node

    def covers(self, step: Step) -> bool:
        """Say whether a step of a zap is of one that covers the watched frame."""
        return bool(step.phase) and step.operation.args[0] <= self.frame < step.operation.args[1]

    def after(
        self, control: tuple[int, int, frozenset[int], bool], step: Step
    ) -> tuple[int, int, frozenset[int], bool] | None:
        """Return the control after a step of the watched vCPU, None if it then knows.

        Raises:
            RejectedError: if the call returns too early.
        """
        _, _, publishes, ended = control
        knows, publishes = self.synchronised(step, publishes, knows=False)
        if knows or (step.phase == 2 and self.covers(step)):
            return None
        bad = "before its zap is ordered" if ended else "with a frame that is not zapped"
        expect(not step.returns, f"a watched call returns {bad}")
        return (step.values, step.state, publishes, ended)

    def moves(
        self, control: tuple[int, int, frozenset[int], bool], node: int
    ) -> list[tuple[Any, int, int]]:
        """Return the moves of another vCPU while a call is watched."""
        values, watched, publishes, ended = control
        state, counts, knows = self.others[node]
        found = []
        for step in self.by.steps(values, state):
            knowing, after = self.synchronised(step, publishes, knows=knows)
            counting, now = counts, ended
            if step.phase == 1:
                counting = self.covers(step)
            elif step.phase == 2:
                now, knowing, counting = now or counts, knowing or counts, False
            if now and not self.ordering:
                continue
            then = (step.values, self.by.shift(watched, step.shift), after, now)
            moved = self.node(step.state, counting, knowing and not step.returns)
            found.append((then, moved, step.shift))
        return found

    def synchronised(
        self, step: Step, publishes: frozenset[int], *, knows: bool
    ) -> tuple[bool, frozenset[int]]:
        """Return whether a vCPU knows after a step, and the objects that then publish."""
        operation, target = step.operation, step.operation.target
        if target.guard is not None or isinstance(target, Mmu | Allocator | Cpu):
            return knows, publishes
        at = next(i for i, each in enumerate(self.by.objects) if each is target)
        verb, order, locks = operation.verb, operation.order, isinstance(target, Spinlock)
        variable = isinstance(target, Atomic | Sequence)
        failed = variable and verb == "cmpxchg" and step.result != operation.args[0]
        stores = (
            (isinstance(target, Atomic) and verb == "store")
            or (isinstance(target, Sequence) and verb == "post")
            or (locks and verb == "unlock")
        )
        loads = variable and verb in ("load", "wait_until", "reached", "wait_reached")
        loads = loads or (locks and verb == "lock")
        exchanges = not (stores or loads or failed)
        if (loads or exchanges) and (locks or order in (ACQUIRE, FULL)):
            knows = knows or at in publishes
        if stores:
            publishes -= {at}
        if (stores or exchanges) and (locks or order in (RELEASE, FULL)) and knows:
            publishes |= {at}
        return knows, publishes


class Shifting:
    """Nodes and rows of them after their numbers are counted from further on, remembered."""

    def __init__(self, shift: Callable[[int, int], int]) -> None:
        self._shift = shift
        self._nodes: dict[tuple[int, int], int] = {}
        self._rows: dict[tuple[int, int], int] = {}

    def node(self, node: int, by: int) -> int:
        """Return the node after ``node`` when numbers are counted from ``by`` on."""
        if not by:
            return node
        if (node, by) not in self._nodes:
            self._nodes[node, by] = self._shift(node, by)
        return self._nodes[node, by]

    def row(self, row: int, by: int) -> int:
        """Return all nodes of a row after that."""
        if not by:
            return row
        if (row, by) not in self._rows:
            self._rows[row, by] = 0
            for node in bits(row):
                self._rows[row, by] |= 1 << self.node(node, by)
        return self._rows[row, by]


def bits(row: int) -> Iterator[int]:
    """Yield the positions of the bits that are set."""
    while row:
        yield (row & -row).bit_length() - 1
        row &= row - 1
