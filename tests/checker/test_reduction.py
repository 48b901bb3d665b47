"""Partial-order reduction: the full search's verdicts, with fewer states kept, exactly so many."""

from __future__ import annotations

import importlib
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba", reason="the compiled search needs numba")

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from helpers.mutants import mutants, written
from helpers.random_protocols import PROGRAMS, Program, made_of
from mtrrzap.checker import check as orchestrator
from mtrrzap.checker.check import HOLDS, SAFETY, UNKNOWN, VIOLATED, Options, check
from mtrrzap.checker.explore import Search
from mtrrzap.checker.model import Model
from mtrrzap.checker.packed_search import PackedSearch
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.reduction import applies
from mtrrzap.checker.result import Exploration, Limits
from mtrrzap.checker.scenario import Scenario, scenario
from mtrrzap.checker.stepper import Stepper
from mtrrzap.errors import UserError
from mtrrzap.protocol import (
    PROTOCOLS,
    Atomic,
    Operation,
    Outcome,
    Range,
    SharedObject,
    Spinlock,
    Steps,
    Vm,
    ZapArray,
)
from mtrrzap.protocol.load import load
from mtrrzap.protocol.registry import protocol

LOW, HIGH = Range(0x80000, 0x100000), Range(0x100000, 0x400000)
APART = ((Range(0, 0x100),), (LOW,), (HIGH,), (Range(0, 1 << 52),))
MIXED = ((Range(0, 0x100), LOW), (LOW,))


def reduced(world: Scenario) -> tuple[Exploration, PackedSearch]:
    search = PackedSearch(Model(world, LostZap(world)), reduced=True)
    return search.run(), search


def full(world: Scenario, **limits: Any) -> Exploration:
    return Search(Model(world, LostZap(world)), limits=Limits(**limits)).run()


def kept(world: Scenario) -> tuple[int, int]:
    """Count the states kept and the steps, by locks held as the schedule tells, not as a table."""
    model = Model(world, LostZap(world))
    stepper = Stepper(model)
    first = stepper.canonical(model.initial)
    seen, queue, steps = {first}, deque([first]), 0
    while queue:
        for move in stepper.moves(queue.popleft()):
            after, steps = move.after, steps + 1
            for vcpu in range(model.vcpus):
                while (on := _alone(model, stepper, after, vcpu)) is not None:
                    after, steps = on, steps + 1
            after = stepper.canonical(after)
            if after not in seen:
                seen.add(after)
                queue.append(after)
    return len(seen), steps


def _alone(model: Model, stepper: Stepper, state: Any, vcpu: int) -> Any:
    local = model.locals.items[state[vcpu]]
    operation = model.operation(local)
    mine = [move for move in stepper.moves(state) if move.vcpu == vcpu]
    if operation is None or len(mine) != 1 or mine[0].flags or mine[0].after[-1] != state[-1]:
        return None
    under = operation.target if operation.verb == "unlock" else operation.target.guard
    alone = under in local.held or operation.verb in ("relax", "alloc")
    return mine[0].after if alone else None


@pytest.mark.parametrize(
    ("name", "vcpus", "requests", "before", "after"),
    [
        ("direct", 3, 2, (125, 300), (125, 300)),
        ("sketch", 3, 1, (1817, 4332), (1019, 3282)),
        ("sketch", 4, 1, (68549, 192433), (37109, 138529)),
        ("review", 3, 2, (6309, 9232), (3159, 7560)),
        ("review", 4, 1, (8685, 13315), (4228, 10562)),
        ("ticket", 2, 2, (931, 1504), (330, 1042)),
        ("ticket", 3, 1, (1504, 2551), (454, 1599)),
        ("ticket", 4, 1, (36496, 79172), (7472, 34988)),
    ],
)
def test_exact_numbers(
    name: str, vcpus: int, requests: int, before: tuple[int, int], after: tuple[int, int]
) -> None:
    world = scenario(load(name), vcpus, requests, ranges=APART, alloc_fails=True)
    all_of_them = PackedSearch(Model(world, LostZap(world))).run()
    assert (all_of_them.states, all_of_them.transitions) == before
    found, search = reduced(world)
    assert not search.doubt
    assert found.cut is None
    assert (found.states, found.transitions) == after
    if after[0] < 5000:
        assert kept(world) == after


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize(("vcpus", "requests"), [(2, 1), (2, 2), (3, 1), (4, 1)])
@pytest.mark.parametrize("ranges", [APART, MIXED], ids=["apart", "mixed"])
def test_a_violation_leaves_doubt(name: str, vcpus: int, requests: int, ranges: Any) -> None:
    world = scenario(load(name), vcpus, requests, ranges=ranges, alloc_fails=True).together()[0]
    all_of_them = PackedSearch(Model(world, LostZap(world))).run()
    _, search = reduced(world)
    assert search.doubt == bool(all_of_them.violations) == name.startswith("v")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_mutants(name: str, tmp_path: Path) -> None:
    for i, mutant in enumerate(mutants(importlib.import_module(f"mtrrzap.protocol.{name}"))):
        folder = tmp_path / str(i)
        folder.mkdir()
        try:
            world = scenario(written(mutant, folder, name), 2, ranges=MIXED, alloc_fails=True)
            same(world, full(world))
        except UserError:
            continue


def same(world: Scenario, all_of_them: Exploration) -> bool:
    """See that the reduced search doubts if it must; return whether it was enough."""
    assert all_of_them.cut is None
    found, search = reduced(world)
    if search.doubt:
        return False
    assert not all_of_them.violations
    assert found.cut is None
    assert found.states <= all_of_them.states
    return True


def locked(program: Program, *, inside: bool = False) -> Program:
    """Return a program whose lists are used with the lock held only; it may deadlock still."""
    found = []
    for verb, *rest in program:
        blocks = [
            locked(each, inside=inside or verb == "locked")
            if i == len(rest) - 1 and isinstance(each, tuple)
            else each
            for i, each in enumerate(rest)
        ]
        step = (verb, *blocks)
        guarded = verb in ("add", "pop", "queue", "take") and not inside
        found.append(("locked", (step,)) if guarded else step)
    return tuple(found)


@st.composite
def worlds(draw: st.DrawFn) -> Scenario:
    program = draw(PROGRAMS)
    if draw(st.booleans()):
        program = locked(program)
    if draw(st.booleans()):
        program += (("zap",),)
    return scenario(
        made_of(program),
        draw(st.integers(2, 4)),
        draw(st.integers(1, 2)),
        ranges=draw(st.sampled_from([APART, MIXED])),
        alloc_fails=draw(st.booleans()),
    )


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_random_protocols(world: Scenario) -> None:
    world = world.together()[0]
    all_of_them = full(world, states=3000)
    assume(all_of_them.cut is None)
    if same(world, all_of_them):
        found, _ = reduced(world)
        assert (found.states, found.transitions) == kept(world)


class Sleepless(Vm):
    lock = Spinlock()
    array = ZapArray(guard=lock)
    first = Atomic(0)


def sleepless(vm: Sleepless, ranges: tuple[Range, ...]) -> Steps:  # noqa: ARG001
    """Go round for ever under the lock; whoever comes second returns without a zap."""
    if (yield vm.first.cmpxchg(0, 1)) == 0:
        yield vm.lock.lock()
        while (yield vm.array.is_empty()):
            pass
    else:
        yield vm.memory.alloc()


def test_who_goes_round_for_ever_puts_nobody_off() -> None:
    world = scenario(protocol(sleepless, "sleepless"), 2, ranges=APART)
    _, search = reduced(world)
    assert search.doubt
    assert full(world).violations


LOCK = Spinlock()


class Mailbox(SharedObject):
    verbs = {"fill": 0, "wait_empty": 0}  # noqa: RUF012
    symmetric = True
    initial = False
    guard = LOCK

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        if operation.verb == "fill":
            return ((True, None),)
        return () if value else ((value, None),)


class Mail(Vm):
    lock = LOCK
    box = Mailbox()


def mail(vm: Mail, ranges: tuple[Range, ...]) -> Steps:
    """Wait without the lock: that is seen before the other has filled the box, and never after."""
    if ranges[0].start:
        yield Operation(vm.box, "wait_empty")
    else:
        yield vm.lock.lock()
        yield Operation(vm.box, "fill")
        yield vm.lock.unlock()
    for start, end in ranges:
        yield vm.mmu.zap(start, end)


def test_an_unlocked_access_that_others_block_leaves_doubt() -> None:
    world = scenario(protocol(mail, "mail"), 2, ranges=APART)
    _, search = reduced(world)
    assert search.doubt
    assert SAFETY["unlocked access"] in full(world).violations


def verdicts(world: Scenario, **options: Any) -> dict[str, Any]:
    found = check(world, Options(properties=tuple(SAFETY), **options))
    return {each.prop: each for each in found}


def test_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "SMALL", 100)
    world = scenario(load("review"), 3, 1, ranges=APART)
    assert {each.engine for each in verdicts(world).values()} == {"numba, reduced"}
    assert {each.states for each in verdicts(world).values()} == {416}
    assert {each.verdict for each in verdicts(world).values()} == {HOLDS}
    for other in (
        verdicts(world, symmetry=False),
        verdicts(world, engine="numba"),
    ):
        assert {each.states for each in other.values()} == {815}
    assert not applies(Model(replace(world, memory="tso"), LostZap(world)))
    alike = scenario(load("review"), 3, 1)
    assert not applies(Model(alike, LostZap(alike)))


def test_fewer_states_than_the_first_look_is_no_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "SMALL", 600)
    found = verdicts(scenario(load("review"), 3, 1, ranges=APART))
    assert {each.states for each in found.values()} == {416}
    assert {each.verdict for each in found.values()} == {HOLDS}


def test_a_schedule_stays_a_shortest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = scenario(load("v4"), 3, 1, ranges=APART)
    before = verdicts(world)
    monkeypatch.setattr(orchestrator, "SMALL", 100)
    after = verdicts(world)
    assert after["lost zap"].verdict == VIOLATED
    assert after["lost zap"].engine == "numba"
    for name, verdict in before.items():
        assert after[name].verdict == verdict.verdict
        assert (after[name].states, after[name].detail) == (verdict.states, verdict.detail)


def test_a_limit_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "SMALL", 100)
    world = scenario(load("review"), 4, 1, ranges=APART)
    found = verdicts(world, limits=Limits(states=1000))
    assert {each.verdict for each in found.values()} == {UNKNOWN}
