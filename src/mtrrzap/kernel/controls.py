"""What must come out so in every comparison, or the judge is blind.

A policy with one wrong field must differ from the kernel. Zaps must clear and visit what the page
table's model says. vCPUs that ask at once must share the work, or not, as the policy's protocol
says. With snoop control on the same events must make no call.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from mtrrzap.kernel.calls import typed
from mtrrzap.kernel.deep import Depth, depth
from mtrrzap.kernel.judge import ALONE, Verdict, host_of, judge
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.mutants import DEEP, mutants
from mtrrzap.kernel.perform import Record, StormTask, Task
from mtrrzap.kernel.program import Case, of
from mtrrzap.kernel.random_events import NO_FIRMWARE, random_trace
from mtrrzap.kernel.stale import stale
from mtrrzap.kernel.storm import Storm
from mtrrzap.kvm.policy import Policy

_MIB = 1 << 20
_SEED, _EVENTS, _VCPUS = 1, 80, 2
_MOST = 3000
"""Events of a trace before each of which all memory may be touched, which is slow."""
HUGE = "2M pages"
"""The name of the walk for which these back the memory."""
STORM = StormTask("storm", Settings(4, quirk=False, group=0), 100, ("kvm_set_cr0",))
"""Each vCPU sets and clears CR0.CD in turn: a request each, with the quirk off."""


class Control(NamedTuple):
    """Something that must come out so."""

    name: str
    passed: bool
    what: str


class Seen(NamedTuple):
    """What the runs recorded."""

    rows: Sequence[tuple[Case, Record]]
    walks: Sequence[tuple[Case, Task, Record]]
    storm: Storm | None
    """None: the policy makes no request that vCPUs could make at once here."""
    quiet: Record
    """With snoop control."""

    @property
    def types(self) -> bool:
        """The kernel says the EPT type of each leaf."""
        return all(typed(record.trace) > 0 for _, _, record in self.walks)


def shortest(wanted: Sequence[Case]) -> Case:
    """Return the one with the fewest events."""
    return min(wanted, key=lambda case: len(case.program.ops))


def walks(wanted: Sequence[Case], *, types: bool) -> list[Case]:
    """Return the runs with all memory mapped before each event.

    ``types``: the kernel says EPT types, so a guest's own trace, which may leave stale ones, is run
    too.
    """
    trace = random_trace(_SEED, _EVENTS, _VCPUS)
    found = [
        Case("4K pages", quirk=True, program=of(trace, 2 * _MIB)),
        Case(HUGE, quirk=False, program=of(trace, 16 * _MIB)),
    ]
    guests = [case for case in wanted if case.program.trace.header.firmware != NO_FIRMWARE]
    if types and guests and len((one := shortest(guests)).program.ops) <= _MOST:
        found.append(one._replace(quirk=True))
    return found


def controls(seen: Seen, policy: Policy) -> Iterator[Control]:
    """Judge them all."""
    for case, task, record in seen.walks:
        found = depth(task, case.program, record, policy)
        yield Control(f"zaps and what is mapped, {case.trace}", not found.wrong, said(found))
        if seen.types:
            yield _audited(case, record, policy)
    if seen.storm is not None:
        fits = _fits(seen.storm, policy.protocol)
        yield Control("vCPUs at once", fits, _said(seen.storm))
    yield from _wrong(seen, policy)
    made = seen.quiet.trace.count(" zap: ")
    what = f"{made} calls of {len(seen.quiet.refused):,} events"
    yield Control("snoop control on", seen.quiet.coherent and not made, what)


def judged(case: Case, record: Record, policy: Policy) -> Verdict:
    """Judge a run by a policy."""
    return judge(case.program.trace, record, policy, host_of(record, quirk=case.quirk))


def said(found: Depth) -> str:
    """Return what a walk showed, in a line."""
    line = (
        f"{found.zaps} zaps cleared {found.leaves:,} leaves and visited {found.visits:,} entries; "
        f"leaves differ in {found.leaves_differ}, visits in {found.visits_differ}"
    )
    if found.yielded:
        line += f" ({found.yielded} gave up the lock and began again)"
    for count, what in (
        (found.tables_differ, "what is mapped"),
        (found.others_differ, "whole subtrees"),
        (found.locks_differ, "the kind of lock"),
    ):
        line += f", {what} in {count}" if count else ""
    if found.types:
        line += f"; of {found.types:,} EPT types those of {found.types_differ:,} leaves differ"
    return line


def _audited(case: Case, record: Record, policy: Policy) -> Control:
    host = replace(host_of(record, quirk=case.quirk), ept=True)
    found = stale(case.program, record, policy, host)
    what = (
        f"{found.leaves} leaves outlived their EPT type, after {found.events} events; "
        f"{found.unforeseen} of them are not in the audit"
    )
    return Control(f"stale types, {case.trace}", not found.unforeseen, what)


def _fits(storm: Storm, protocol: str) -> bool:
    """Tell if a storm can be this protocol's: all but one let one vCPU zap at a time."""
    if protocol == ALONE:
        return storm.overlaps > 0 and storm.zaps == storm.requests and not storm.shared
    return not storm.overlaps


def _said(storm: Storm) -> str:
    return (
        f"{storm.requests} requests of {storm.vcpus} vCPUs made {storm.zaps} zaps, {storm.shared} "
        f"made none of their own; {storm.overlaps} zaps began during another one"
    )


def _wrong(seen: Seen, policy: Policy) -> Iterator[Control]:
    """Judge by each wrong policy; each must be found wrong."""
    for mutant in mutants(policy, types=seen.types):
        if mutant.field == "protocol":
            found = seen.storm is not None and not _fits(seen.storm, mutant.policy.protocol)
            what = _said(seen.storm) if seen.storm is not None and found else None
        elif mutant.field in DEEP:
            depths = (depth(task, c.program, r, mutant.policy) for c, task, r in seen.walks)
            what = next((said(found) for found in depths if found.wrong), None)
        else:
            what = _first(seen, mutant.policy)
        yield Control(f"wrong: {mutant.name}", what is not None, what or "not found")


def _first(seen: Seen, policy: Policy) -> str | None:
    for case, record in seen.rows:
        if (found := judged(case, record, policy).first) is not None:
            return f"{case.trace}, {found}"
    return None
