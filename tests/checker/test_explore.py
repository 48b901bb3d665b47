"""Exact numbers, and an oracle that shares no code with the search: histories, not states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from helpers import broken_protocols, unsound_protocols
from mtrrzap.checker import check as orchestrator
from mtrrzap.checker.check import Options, check
from mtrrzap.checker.explore import Search
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties import lost_zap, safety
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.properties.work import measure
from mtrrzap.checker.result import Exploration, Limits
from mtrrzap.checker.scenario import Scenario, scenario
from mtrrzap.errors import UserError
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS, Atomic
from mtrrzap.protocol.load import load
from mtrrzap.protocol.registry import protocol


def explored(world: Scenario, **options: Any) -> Exploration:
    return Search(Model(world, LostZap(world)), **options).run()


@pytest.mark.parametrize(
    ("name", "vcpus", "requests", "states", "transitions", "merged"),
    [
        ("direct", 2, 1, 12, 16, 7),
        ("direct", 3, 1, 56, 117, 14),
        ("v4", 2, 1, 255, 372, 130),
        ("v4", 3, 1, 4139, 8268, 761),
        ("v4", 2, 2, 1276, 2016, 643),
        ("sketch", 2, 1, 167, 222, 85),
        ("sketch", 3, 1, 2133, 3600, 396),
        ("review", 2, 1, 114, 140, 58),
        ("review", 3, 2, 6837, 10512, 1227),
        ("ticket", 2, 1, 168, 224, 85),
        ("ticket", 3, 1, 2322, 3981, 425),
    ],
)
def test_exact_numbers(
    name: str, vcpus: int, requests: int, states: int, transitions: int, merged: int
) -> None:
    world = scenario(load(name), vcpus, requests)
    all_of_them = explored(world, symmetry=False)
    assert (all_of_them.states, all_of_them.transitions) == (states, transitions)
    assert explored(world).states == merged


@pytest.mark.parametrize(
    ("name", "alloc_fails", "steps"),
    [
        ("v4", False, 20),
        ("v4", True, 20),
        ("v3", True, 13),
        ("v3", False, 20),
        ("v4_patch10", True, 13),
        ("v4_patch10", False, 20),
    ],
)
def test_the_shortest_schedule(name: str, alloc_fails: bool, steps: int) -> None:
    world = scenario(load(name), 2, 1, alloc_fails=alloc_fails)
    for symmetry in (True, False):
        found = explored(world, symmetry=symmetry)
        assert set(found.violations) == {lost_zap.FLAG}
        assert len(found.violations[lost_zap.FLAG].schedule) == steps


@pytest.mark.parametrize("name", ["sketch", "review", "ticket", "direct"])
@pytest.mark.parametrize(("vcpus", "requests"), [(2, 1), (2, 2), (3, 1), (3, 2), (4, 1)])
def test_these_hold(name: str, vcpus: int, requests: int) -> None:
    found = explored(scenario(load(name), vcpus, requests, alloc_fails=vcpus < 4))
    assert found.cut is None
    assert not found.violations


MIXED = ((0x80, 0xA0), (0x100, 0x200)), ((0x100, 0x200),), ((0xC0, 0xC8),)


@pytest.mark.parametrize("name", ["sketch", "review", "ticket"])
def test_these_hold_for_different_ranges(name: str) -> None:
    found = explored(scenario(load(name), 3, 1, ranges=MIXED, alloc_fails=True))
    assert found.cut is None
    assert not found.violations


@pytest.mark.parametrize("name", ["v4", "sketch", "review", "ticket"])
def test_tso_changes_no_verdict(name: str) -> None:
    found = explored(scenario(load(name), 3, 1, memory="tso"))
    assert found.cut is None
    assert set(found.violations) == ({lost_zap.FLAG} if name == "v4" else set())


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("no_lock", safety.UNLOCKED_FLAG),
        ("unlock_twice", safety.UNLOCKED_FLAG),
        ("crossed_locks", safety.DEADLOCK_FLAG),
        ("forgets_unlock", safety.DEADLOCK_FLAG),
        ("zaps_nothing", lost_zap.FLAG),
        ("zaps_half", lost_zap.FLAG),
    ],
)
def test_a_seeded_bug_fails_with_its_own_failure(name: str, flag: int) -> None:
    world = scenario(protocol(getattr(broken_protocols, name), "test"))
    assert set(explored(world).violations) == {flag}


THREE = (((0x1000, 0x2000), (0x4000, 0x8000), (0x10000, 0x20000)),)


def test_an_array_that_drops_what_does_not_fit_violates_capacity() -> None:
    row = protocol(broken_protocols.drops, "test")
    assert set(explored(scenario(row, 2, 1, ranges=THREE)).violations) == {
        safety.CAPACITY_FLAG,
        lost_zap.FLAG,
    }


def test_an_array_that_purges_loses_nothing() -> None:
    row = protocol(broken_protocols.purges, "test")
    found = explored(scenario(row, 3, 1, ranges=THREE))
    assert (found.cut, found.violations) == (None, {})


class Oracle:
    """Depth-first over complete histories: generators re-run from scratch, nothing interned.

    Two histories are the same state if every vCPU was sent the same results and the objects and
    the calls stand alike. It knows one range per request, and no symmetry.
    """

    def __init__(self, world: Scenario) -> None:
        self.world = world
        self.vm = world.protocol.vm()
        self.lost = False
        self.stuck = False
        self.seen: set[Any] = set()

    def run(self) -> Oracle:
        n = self.world.vcpus
        values = tuple((known.name, known.initial) for known in self.vm.objects())
        start = (((0, (), 0),) * n, values, ((False, frozenset()),) * n)
        work = [start]
        while work:
            state = work.pop()
            if state in self.seen:
                continue
            self.seen.add(state)
            after = [new for vcpu in range(n) for new in self.steps(state, vcpu)]
            done = all(v[0] == len(self.world.requests[i]) for i, v in enumerate(state[0]))
            self.stuck |= not after and not done
            work += after
        return self

    def pending(self, vcpu: int, request: int, results: tuple[Any, ...]) -> Any:
        steps = self.world.protocol.call(self.vm, self.world.requests[vcpu][request])
        operation = steps.send(None)
        try:
            for result in results:
                operation = steps.send(result)
        except StopIteration:
            return None
        return operation

    def steps(self, state: Any, vcpu: int) -> list[Any]:
        vcpus, values, _ = state
        request, results, _ = vcpus[vcpu]
        if request == len(self.world.requests[vcpu]):
            return []
        operation = self.pending(vcpu, request, results)
        value = dict(values)[operation.target.name]
        outcomes = operation.target.effect(value, operation, vcpu)
        if operation.verb == "alloc" and not self.world.alloc_fails:
            outcomes = outcomes[:1]
        return [self.step(state, vcpu, operation, outcome) for outcome in outcomes]

    def step(self, state: Any, vcpu: int, operation: Any, outcome: Any) -> Any:
        vcpus, values, calls = (list(part) for part in state)
        request, results, phase = vcpus[vcpu]
        if not results and not phase:
            calls[vcpu] = (True, frozenset())
        if operation.verb == "zap" and not phase:
            calls = [(out, who | {vcpu}) if out else (out, who) for out, who in calls]
            vcpus[vcpu] = (request, results, 1)
            return tuple(vcpus), tuple(values), tuple(calls)
        if operation.verb == "zap":
            calls = [(False, frozenset()) if vcpu in who else (out, who) for out, who in calls]
        name = operation.target.name
        values = [(each, outcome[0] if each == name else value) for each, value in values]
        results = (*results, outcome[1])
        vcpus[vcpu] = (request, results, 0)
        if self.pending(vcpu, request, results) is None:
            self.lost |= calls[vcpu][0]
            calls[vcpu] = (False, frozenset())
            vcpus[vcpu] = (request + 1, (), 0)
        return tuple(vcpus), tuple(values), tuple(calls)


@pytest.mark.parametrize("name", [*PROTOCOLS, "crossed_locks"])
def test_the_oracle_agrees(name: str) -> None:
    row = load(name) if name in PROTOCOLS else protocol(getattr(broken_protocols, name), "test")
    world = scenario(row, 2, 1, alloc_fails=True)
    oracle = Oracle(world).run()
    found = explored(world, symmetry=False)
    assert oracle.lost == (lost_zap.FLAG in found.violations)
    assert oracle.stuck == (safety.DEADLOCK_FLAG in found.violations)
    assert found.states <= len(oracle.seen)
    if name == "direct":  # nothing is sent back, so there is nothing to forget
        assert found.states == len(oracle.seen)


def test_a_search_that_was_cut_never_says_holds() -> None:
    world = scenario(load("sketch"), 3, 1)
    options = Options(limits=Limits(states=100), properties=("lost zap", "deadlock", "starvation"))
    verdicts = check(world, options)
    assert [each.verdict for each in verdicts] == ["unknown"] * 3
    assert verdicts[0].states >= 100
    assert "limit of 100 states: not seen in" in verdicts[0].detail


def test_without_numba_plain_python_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "numba_works", lambda: False)
    monkeypatch.setattr(orchestrator, "SMALL", 100)
    only = Options(properties=("lost zap",))
    verdict = check(scenario(load("sketch"), 3, 1), only)[0]
    assert (verdict.verdict, verdict.states, verdict.engine) == ("holds", 396, "python")
    with pytest.raises(UserError, match="the compiled search needs numba"):
        check(scenario(load("sketch"), 3, 1), replace(only, engine="numba"))


def test_ctrl_c_says_how_far_it_got() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    verdicts = check(scenario(load("sketch"), 3, 1), Options(progress=interrupt))
    assert {each.verdict for each in verdicts} == {"unknown"}
    assert verdicts[0].detail.startswith("interrupted: not seen in 1 states")


def test_symmetry_needs_equal_requests() -> None:
    world = scenario(load("review"), 3, 1, ranges=(((0, 0x100),), ((0x100, 0x200),)))
    assert world.groups() == (0, 1, 0)
    world, order = world.together()
    assert (world.groups(), order) == ((0, 0, 1), (0, 2, 1))
    assert replace(world, forever=True).groups() == (0, 1, 2)
    assert world.watching(0).groups() == (0, 1, 2)
    assert scenario(load("review"), 3, 1, ranges=((ALL_GFNS,),)).groups() == (0, 0, 0)


def test_a_loop_back_to_the_first_step_does_not_ask_again() -> None:
    ranges = ((0, 0x100),), ((0x100, 0x200),)
    world = scenario(protocol(unsound_protocols.polls, "test"), 2, 1, ranges=ranges)
    found = explored(world)
    assert (found.cut, found.violations) == (None, {})


def test_an_object_of_ones_own_is_told_which_vcpu_uses_it() -> None:
    world = scenario(protocol(unsound_protocols.last_one_waits, "test"), 2, 1)
    assert (world.symmetric, world.groups()) == (False, (0, 1))
    assert set(explored(world).violations) == {safety.DEADLOCK_FLAG}
    assert scenario(load("ticket"), 2, 1).symmetric


def test_a_subclass_with_an_effect_of_its_own_is_not_taken_for_symmetric() -> None:
    class Named(Atomic):
        def effect(self, value: Any, operation: Any, vcpu: int) -> Any:
            return ((vcpu, value),) if operation.verb == "store" else ((value, value),)

    class Plain(Atomic):
        pass

    assert not Named.is_symmetric()
    assert Plain.is_symmetric()


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_a_verb_means_something_on_its_own_object_only(memory: str) -> None:
    row = protocol(unsound_protocols.counts_as_nothing, "test")
    world = scenario(row, 2, 1, memory=memory)
    assert set(explored(world).violations) == {lost_zap.FLAG}
    measured = measure(world)
    assert (measured.zaps.worst, measured.waiting) == (0, 0)
