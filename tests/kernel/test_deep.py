"""Walks against a page table that is walked entry by entry, written as ftrace would write it."""

from collections.abc import Iterator

import pytest

from helpers.kernel_records import call, line
from mtrrzap.kernel import program
from mtrrzap.kernel.deep import Depth, depth
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.mutants import DEEP, mutants
from mtrrzap.kernel.perform import Record, Task
from mtrrzap.kernel.random_events import random_trace
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host, replay

FRAMES = 512
LEAF, TABLE = 0x6D97E67, 0xB609827
V61 = by_name("v6.1")
HOST = Host(maxphyaddr=40, ept=False, quirk_cd_nw_cleared=False)
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


def _record(*, wrong: str = "") -> Record:
    """A kernel that zaps leaves for each request; ``wrong`` says what it does wrong."""
    asked = {r.event: r.ranges for r in replay(MADE.trace, V61, HOST)}
    text = ""
    mapped: set[int] = set()
    for number in range(len(MADE.ops)):
        text += line(number, f"tracing_mark_write: e {number}")
        for gfn in sorted(set(range(FRAMES)) - mapped):
            text += spte(number, gfn, 1, 0, LEAF)
        mapped = set(range(FRAMES))
        for start, end in asked.get(number, ()) or ([(1, 0)] if number in asked else []):
            begin, done = call(number, start, end).splitlines(keepends=True)
            lines = list(_zap(start, end)) if start < end else []
            if wrong and mapped & set(range(start, min(end, FRAMES))):
                lines = [each for each in lines if wrong not in each]
            text += begin + "".join(lines) + done
            if "gfn" not in wrong:
                mapped -= set(range(start, min(end, FRAMES)))
    return Record(text, "", [], [], "6.1.0-none", "NPT", 40, coherent=False)


def _depth(record: Record, policy: str = "v6.1") -> Depth:
    settings = Settings(2, quirk=False, memory=FRAMES << 12)
    return depth(Task("x", settings, MADE.ops), MADE, record, by_name(policy))


def test_the_right_walks() -> None:
    found = _depth(_record())
    assert not found.wrong
    assert found.zaps > 20
    assert found.leaves > 20 * FRAMES // 2


@pytest.mark.parametrize(
    ("wrong", "field"),
    [("gfn 1f ", "leaves_differ"), ("gfn 1f ", "tables_differ"), ("visit", "visits_differ")],
)
def test_a_wrong_walk(wrong: str, field: str) -> None:
    found = _depth(_record(wrong=wrong))
    assert found.wrong
    assert getattr(found, field) > 10


def test_a_wrong_walk_of_a_policy() -> None:
    right = _record()
    settings = Settings(2, quirk=False, memory=FRAMES << 12)
    task = Task("x", settings, MADE.ops)
    for mutant in mutants(V61):
        if mutant.field in DEEP:
            assert depth(task, MADE, right, mutant.policy).wrong, mutant.name
