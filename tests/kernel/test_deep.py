"""Walks against a page table that is walked entry by entry, written as ftrace would write it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from helpers.kernel_records import call, line
from mtrrzap.guest.event import Event, Kind
from mtrrzap.kernel import program
from mtrrzap.kernel.deep import Depth, depth
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.mutants import DEEP, mutants
from mtrrzap.kernel.perform import Record, Task
from mtrrzap.kernel.program import Program
from mtrrzap.kernel.random_events import random_trace
from mtrrzap.kernel.stale import Stale, stale
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.vcpu import power_on, step

FRAMES = 512
LEAF, TABLE = 0x6D97E67, 0xB609827
V61 = by_name("v6.1")
HOST = Host(maxphyaddr=40, ept=False)
MADE = program.of(random_trace(5, 60, vcpus=2), FRAMES << 12)


def spte(number: int, gfn: int, level: int, old: int, new: int) -> str:
    text = f"as id 0 gfn {gfn:x} level {level} old_spte {old:x} new_spte {new:x}"
    return line(number, f"kvm_tdp_mmu_spte_changed: {text}")


def _zap(start: int, end: int) -> Iterator[str]:
    """Visit every entry of four levels that overlaps the range; one table page at each level."""
    yield line(1, "wlock: (_raw_write_lock+0x0/0x30)")
    yield line(1, "again: (tdp_iter_restart+0x0/0x70 [kvm])")
    for level in (4, 3, 2, 1):
        size = 1 << 9 * (level - 1)
        for gfn in range(0, 512 * size, size):
            if gfn < end and gfn + size > start:
                yield line(1, "visit: (tdp_iter_next+0x0/0x170 [kvm])")
                if level == 1:
                    yield spte(1, gfn, 1, LEAF, 0)


def _installed(number: int, gfn: int, kind: object) -> Iterator[str]:
    if kind is not None:
        bits = kind.type << 3 | kind.ipat << 6  # type: ignore[attr-defined]
        yield line(number, f"type: (mtrrzap_ept_type+0x0/0x10 [kvm]) gfn={gfn:#x} bits={bits:#x}")
    yield spte(number, gfn, 1, 0, LEAF)


def _record(
    made: Program = MADE, *, wrong: str = "", types: bool = False, leaves_root: bool = False
) -> Record:
    """A kernel that zaps leaves for each request; ``wrong`` says what it does wrong.

    ``leaves_root``: it has a new root, without a word, after each INIT.
    """
    asked = {r.event: r.ranges for r in replay(made.trace, V61, HOST)}
    vcpus = [power_on(40)] * made.trace.header.vcpus
    mask = MtMask(V61, replace(HOST, ept=types))
    text, mapped = "", set[int]()
    new_root = True
    for number, event in enumerate(made.trace.events):
        text += line(number, f"tracing_mark_write: e {number}")
        if new_root:
            text += "".join(spte(number, 0, level, 0, TABLE) for level in (4, 3, 2))
        stretches = list(mask.stretches(vcpus[event.vcpu]))
        for gfn in sorted(set(range(FRAMES)) - mapped):
            kind = next(each.type for each in stretches if gfn < each.end)
            text += "".join(_installed(number, gfn, kind))
        mapped = set(range(FRAMES))
        vcpus[event.vcpu], _ = step(vcpus[event.vcpu], event)
        for start, end in asked.get(number, ()) or ([(1, 0)] if number in asked else []):
            begin, done = call(number, start, end).splitlines(keepends=True)
            lines = list(_zap(start, end)) if start < end else []
            if wrong and mapped & set(range(start, min(end, FRAMES))):
                lines = [each for each in lines if wrong not in each]
            text += begin + "".join(lines) + done
            if "gfn" not in wrong:
                mapped -= set(range(start, min(end, FRAMES)))
        new_root = leaves_root and event.kind is Kind.INIT
        mapped = set() if new_root else mapped
    return Record(text, "", [], [], "6.1.0-none", "NPT", 40, coherent=False)


def _task(made: Program = MADE) -> Task:
    return Task("x", Settings(2, memory=FRAMES << 12), made.ops)


def _depth(record: Record, policy: str = "v6.1") -> Depth:
    return depth(_task(), MADE, record, by_name(policy))


@pytest.mark.parametrize("types", [False, True])
def test_the_right_walks(types: bool) -> None:
    found = _depth(_record(types=types))
    assert not found.wrong
    assert found.zaps > 20
    assert found.leaves > 20 * FRAMES // 2
    assert found.types == (found.leaves if types else 0)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [("gfn 1f ", "leaves_differ"), ("gfn 1f ", "tables_differ"), ("visit", "visits_differ")],
)
def test_a_wrong_walk(wrong: str, field: str) -> None:
    found = _depth(_record(wrong=wrong))
    assert found.wrong
    assert getattr(found, field) > 10


def test_a_page_table_page_too_many() -> None:
    right = _record()
    extra = spte(0, 1 << 18, 3, 0, TABLE)
    marked, rest = right.trace.split("\n", 1)
    found = _depth(right._replace(trace=f"{marked}\n{extra}{rest}"))
    assert found.tables_differ == 2 * len(MADE.ops)
    assert not found.leaves_differ


def test_a_leaf_of_another_type() -> None:
    right = _record(types=True)
    found = _depth(right._replace(trace=right.trace.replace("gfn=0x5 bits=0x", "gfn=0x5 bits=0x4")))
    assert found.types_differ == 1
    assert not found.tables_differ


@pytest.mark.parametrize("types", [False, True])
def test_a_wrong_walk_of_a_policy(types: bool) -> None:
    right = _record(types=types)
    for mutant in mutants(V61, types=types):
        if mutant.field in DEEP:
            assert depth(_task(), MADE, right, mutant.policy).wrong, mutant.name


def test_a_kernel_that_leaves_the_root() -> None:
    events = (*MADE.trace.events, Event(0, Kind.INIT), *MADE.trace.events, Event(1, Kind.INIT))
    made = program.of(replace(MADE.trace, events=events), FRAMES << 12)
    assert any(event.kind is Kind.INIT for event in made.trace.events)
    found = depth(_task(made), made, _record(made, types=True, leaves_root=True), V61)
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
    assert _stale(made, _record(made, types=True)) == Stale(2 * FRAMES, events=4, unforeseen=0)


def test_a_stale_type_that_the_audit_does_not_know() -> None:
    record = _record(types=True)
    assert _stale(MADE, record).unforeseen == 0
    wrong = record.trace.replace("gfn=0x5 bits=0x", "gfn=0x5 bits=0x4")
    assert _stale(MADE, record._replace(trace=wrong)).unforeseen > 0
