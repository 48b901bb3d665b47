"""The whole comparison: which runs, on how many emulated hosts, and what they show.

Beside the runs that were asked for there are controls: a policy with one wrong field must differ,
zaps must clear and visit what the page table's model says, and with snoop control on the same
events must make no call.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mtrrzap.guest.trace import Trace
from mtrrzap.kernel import boot, guests, program
from mtrrzap.kernel.deep import Depth, depth
from mtrrzap.kernel.judge import Difference, Verdict, judge, verdict
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.mutants import DEEP, mutants
from mtrrzap.kernel.perform import Record, Task
from mtrrzap.kernel.program import Program
from mtrrzap.kernel.random_events import random_trace
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host

_MIB = 1 << 20
_AT_ONCE = 12_000
"""Events that are worth another emulated host."""
_DEEP_SEED, _DEEP_EVENTS = 1, 80
_DEEP = {"4K": (2 * _MIB, False), "2M": (16 * _MIB, True)}
"""Memory, and whether huge pages back it."""


class Case(NamedTuple):
    """A trace, with the quirk on or off."""

    trace: str
    quirk: bool
    program: Program

    @property
    def key(self) -> str:
        """The name of a file."""
        return f"{''.join(c if c.isalnum() else '-' for c in self.trace)}-{int(self.quirk)}"


class Row(NamedTuple):
    """What a case, or the boot of a whole guest, showed."""

    name: str
    trace: Trace
    quirk: bool
    verdict: Verdict


class Control(NamedTuple):
    """Something that must come out so, or the judge is blind."""

    name: str
    passed: bool
    what: str


class Outcome(NamedTuple):
    """The whole comparison."""

    kernel: str
    second_stage: str
    policy: Policy
    rows: tuple[Row, ...]
    controls: tuple[Control, ...]

    @property
    def same(self) -> bool:
        """The kernel did what the policy says, and every control passed."""
        controls = all(control.passed for control in self.controls)
        return controls and not any(row.verdict.differences for row in self.rows)


def cases(traces: Sequence[tuple[str, Trace]]) -> list[Case]:
    """Return every trace with the quirk on and off."""
    made = [(name, program.of(trace, _memory(trace))) for name, trace in traces]
    return [Case(name, quirk, each) for name, each in made for quirk in (True, False)]


def _memory(trace: Trace) -> int:
    """Return bytes for a guest of so many vCPUs, each of which needs 12 KiB for itself."""
    return (2 + -(-trace.header.vcpus * 3 // 256)) * _MIB


def compare(
    wanted: Sequence[Case],
    policy: Policy,
    host: boot.Host,
    *,
    whole: Sequence[int] = (),
    timeout: float,
    progress: boot.Progress = lambda _: None,
) -> Outcome:
    """Run the cases, the whole guests and the controls. Raises ``UserError``.

    ``whole`` has a number of vCPUs for each whole guest.
    """
    tasks = [_task(str(number), case) for number, case in enumerate(wanted)]
    walked = _deep_program()
    deep = list(_deep_tasks(walked))
    shortest = min(wanted, key=lambda case: len(case.program.ops))
    quiet = _task("coherent", shortest)._replace(coherent=True)
    jobs = [boot.Job(host, part) for part in _shared(tasks, deep)]
    jobs.append(boot.Job(host.with_snoop_control(), [quiet]))
    if whole:
        jobs.append(boot.guest_job(host, whole, timeout))
    done = boot.run(jobs, timeout=timeout, progress=progress)
    results = {name: data for each in done for name, data in each.items()}
    found = {task.name: Record(**results[task.name]) for task in (*tasks, *deep, quiet)}
    records = [found[str(number)] for number in range(len(wanted))]
    rows = tuple(
        Row(case.trace, case.program.trace, case.quirk, _judged(case, record, policy))
        for case, record in zip(wanted, records, strict=True)
    )
    rows += tuple(_booted(each, results, policy) for each in whole)
    depths = _Depths(walked, tuple((task, found[task.name]) for task in deep))
    controls = (
        *_deep(depths, policy),
        *_wrong(wanted, records, depths, policy),
        _coherent(found["coherent"]),
    )
    first = records[0]
    return Outcome(first.kernel, first.second_stage, policy, rows, controls)


def events(wanted: Sequence[Case]) -> int:
    """Return how many events ``compare`` performs, for a progress line."""
    deep = len(_DEEP) * len(_deep_program().ops)
    quiet = min(len(case.program.ops) for case in wanted)
    return sum(len(case.program.ops) for case in wanted) + deep + quiet


def _task(name: str, case: Case) -> Task:
    header = case.program.trace.header
    memory = header.memslots[0].end << 12
    settings = Settings(header.vcpus, header.maxphyaddr, case.quirk, group=0, memory=memory)
    return Task(name, settings, case.program.ops)


def _deep_program() -> Program:
    return program.of(random_trace(_DEEP_SEED, _DEEP_EVENTS, vcpus=2), 2 * _MIB)


def _deep_tasks(made: Program) -> Iterator[Task]:
    for name, (memory, huge) in _DEEP.items():
        settings = Settings(2, quirk=False, group=0, memory=memory, huge=huge)
        yield Task(f"deep-{name}", settings, made.ops, touch=True, installs=True, visits=True)


class _Depths(NamedTuple):
    """The runs with all memory mapped."""

    program: Program
    runs: tuple[tuple[Task, Record], ...]

    def by(self, policy: Policy) -> Iterator[tuple[str, Depth]]:
        """Yield the size of pages, and how a policy's walks compare."""
        for task, record in self.runs:
            yield task.name.partition("-")[2], depth(task, self.program, record, policy)


def _shared(tasks: Sequence[Task], deep: Sequence[Task]) -> list[list[Task]]:
    """Divide tasks among as many hosts as there are cores, if there is that much to do."""
    total = sum(len(task.program) for task in tasks)
    hosts = max(1, min(len(os.sched_getaffinity(0)), total // _AT_ONCE, len(tasks)))
    parts: list[list[Task]] = [[] for _ in range(hosts)]
    for task in sorted(tasks, key=lambda task: -len(task.program)):
        min(parts, key=lambda part: sum(len(each.program) for each in part)).append(task)
    parts[-1] += deep
    return parts


def _judged(case: Case, record: Record, policy: Policy) -> Verdict:
    return judge(case.program.trace, record, policy, host_of(record, quirk=case.quirk))


def _booted(vcpus: int, results: Mapping[str, dict[str, Any]], policy: Policy) -> Row:
    record = guests.GuestRecord(**results[guests.name(vcpus)])
    seen = guests.seen(record, vcpus)
    host = Host(ept=record.second_stage == "EPT")
    found = verdict(seen.trace, seen.calls, seen.refused, policy, host)
    return Row("a boot of SeaBIOS", seen.trace, quirk=True, verdict=found)


def host_of(record: Record, *, quirk: bool) -> Host:
    """Return the host as a record says it is."""
    return Host(
        maxphyaddr=record.maxphyaddr,
        ept=record.second_stage == "EPT",
        noncoherent_dma=not record.coherent,
        quirk_cd_nw_cleared=quirk,
    )


# -- controls


def _deep(depths: _Depths, policy: Policy) -> Iterator[Control]:
    for size, found in depths.by(policy):
        yield Control(
            f"leaves, visits and what is mapped, {size} pages", not found.wrong, said(found)
        )


def said(found: Depth) -> str:
    """Return what a deep run showed, in a line."""
    line = (
        f"{found.zaps} zaps cleared {found.leaves:,} leaves and visited {found.visits:,} entries; "
        f"leaves differ in {found.leaves_differ}, visits in {found.visits_differ}"
    )
    if found.yielded:
        line += f" ({found.yielded} gave up the lock and began again)"
    if found.tables_differ:
        line += f", other leaves are left in {found.tables_differ}"
    if found.others_differ:
        line += f", whole subtrees in {found.others_differ}"
    if found.locks_differ:
        line += f", the kind of lock in {found.locks_differ}"
    return line


def _wrong(
    wanted: Sequence[Case],
    records: Sequence[Record],
    depths: _Depths,
    policy: Policy,
) -> Iterator[Control]:
    """Judge by each wrong policy; each must be found wrong."""
    for mutant in mutants(policy):
        if mutant.field in DEEP:
            wrong = [said(found) for _, found in depths.by(mutant.policy) if found.wrong]
            yield Control(f"wrong: {mutant.name}", bool(wrong), wrong[0] if wrong else "not found")
            continue
        first: tuple[str, Difference] | None = None
        for case, record in zip(wanted, records, strict=True):
            found = _judged(case, record, mutant.policy).first
            if found is not None:
                first = (case.trace, found)
                break
        what = f"{first[0]}, {first[1]}" if first else "not found"
        yield Control(f"wrong: {mutant.name}", first is not None, what)


def _coherent(record: Record) -> Control:
    made = record.trace.count(" zap: ")
    passed = record.coherent and not made
    return Control("snoop control on", passed, f"{made} calls of {len(record.refused):,} events")
