"""Walks and types against a page table that is walked entry by entry."""

from dataclasses import replace

import pytest

from helpers.kernel_records import FRAMES, TABLE, V61, spte, walked
from mtrrzap.guest.event import Event, Kind
from mtrrzap.kernel import program
from mtrrzap.kernel.deep import Depth, depth
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.mutants import DEEP, mutants
from mtrrzap.kernel.perform import Record, Task
from mtrrzap.kernel.program import Program
from mtrrzap.kernel.random_events import random_trace
from mtrrzap.kernel.stale import Stale, stale
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host

HOST = Host(maxphyaddr=40, ept=False)
MADE = program.of(random_trace(5, 60, vcpus=2), FRAMES << 12)


def _task(made: Program = MADE) -> Task:
    return Task("x", Settings(2, memory=FRAMES << 12), made.ops)


def _depth(record: Record, policy: str = "v6.1") -> Depth:
    return depth(_task(), MADE, record, by_name(policy))


@pytest.mark.parametrize("types", [False, True])
def test_the_right_walks(types: bool) -> None:
    found = _depth(walked(MADE, types=types))
    assert not found.wrong
    assert found.zaps > 20
    assert found.leaves > 20 * FRAMES // 2
    assert found.types == (found.leaves if types else 0)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [("gfn 1f ", "leaves_differ"), ("gfn 1f ", "tables_differ"), ("visit", "visits_differ")],
)
def test_a_wrong_walk(wrong: str, field: str) -> None:
    found = _depth(walked(MADE, wrong=wrong))
    assert found.wrong
    assert getattr(found, field) > 10


def test_a_page_table_page_too_many() -> None:
    right = walked(MADE)
    extra = spte(0, 1 << 18, 3, 0, TABLE)
    marked, rest = right.trace.split("\n", 1)
    found = _depth(right._replace(trace=f"{marked}\n{extra}{rest}"))
    assert found.tables_differ == 2 * len(MADE.ops)
    assert not found.leaves_differ


def test_a_leaf_of_another_type() -> None:
    right = walked(MADE, types=True)
    found = _depth(right._replace(trace=right.trace.replace("gfn=0x5 bits=0x", "gfn=0x5 bits=0x4")))
    assert found.types_differ == 1
    assert not found.tables_differ


@pytest.mark.parametrize("types", [False, True])
def test_a_wrong_walk_of_a_policy(types: bool) -> None:
    right = walked(MADE, types=types)
    for mutant in mutants(V61, types=types):
        if mutant.field in DEEP:
            assert depth(_task(), MADE, right, mutant.policy).wrong, mutant.name


def test_a_kernel_that_leaves_the_root() -> None:
    events = (*MADE.trace.events, Event(0, Kind.INIT), *MADE.trace.events, Event(1, Kind.INIT))
    made = program.of(replace(MADE.trace, events=events), FRAMES << 12)
    assert any(event.kind is Kind.INIT for event in made.trace.events)
    found = depth(_task(made), made, walked(made, types=True, leaves_root=True), V61)
    assert not found.wrong


# -- entries that outlive their type


def _stale(made: Program, record: Record) -> Stale:
    return stale(made, record, V61, replace(HOST, ept=True))


def test_stale_types_are_those_of_the_audit() -> None:
    """v6.1 with the quirk does not zap on a toggle: what was installed under CD = 1 stays."""
    events = [Event(0, Kind.CR0, 0, 0x11), Event(0, Kind.WRMSR, 0x2FF, 0xC06)]
    events += [Event(0, Kind.CR0, 0, 0x40000011), Event(0, Kind.WRMSR, 0x2FF, 0xC06)]
    events += [Event(0, Kind.CR0, 0, 0x11), Event(0, Kind.WRMSR, 0x277, 6)]
    made = program.of(replace(MADE.trace, events=tuple(events)), FRAMES << 12)
    # Zaps after events 1 and 3. WB+IPAT is stale after 0, and from 4 on; UC and WB after 2.
    assert _stale(made, walked(made, types=True)) == Stale(2 * FRAMES, events=4, unforeseen=0)


def test_a_stale_type_that_the_audit_does_not_know() -> None:
    record = walked(MADE, types=True)
    assert _stale(MADE, record).unforeseen == 0
    wrong = record.trace.replace("gfn=0x5 bits=0x", "gfn=0x5 bits=0x4")
    assert _stale(MADE, record._replace(trace=wrong)).unforeseen > 0
