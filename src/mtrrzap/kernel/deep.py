"""What each zap cleared and visited in KVM's page table, against the modelled one.

The guest reads every page before every event, so all of its memory is mapped before every zap; and
after every zap the leaves that are present must be those of the model.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mtrrzap.gfn import PAGE_SHIFT, Range
from mtrrzap.guest.event import Event, Kind
from mtrrzap.kernel.calls import Call, Change, read
from mtrrzap.kernel.perform import Record, Task
from mtrrzap.kernel.program import Program
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import Lock, Policy, Walk
from mtrrzap.kvm.ranges import clamp
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.tdp import Memslot, PageTable
from mtrrzap.kvm.tdp.levels import frames
from mtrrzap.kvm.tdp.table import NOTHING, Zap
from mtrrzap.kvm.vcpu import power_on

Leaf = tuple[int, int]
"""gfn and level."""
_LEAVES_ROOT = frozenset({Kind.RESET, Kind.INIT, Kind.HELD_CR0})


class Depth(NamedTuple):
    """What came of one run: numbers of zaps, unless it says otherwise."""

    zaps: int
    leaves_differ: int
    others_differ: int
    """Zaps that cleared other entries than leaves, where the model clears none, or not as many."""
    visits_differ: int
    yielded: int
    """Of those, zaps that gave up the lock and began again: they visit entries twice."""
    locks_differ: int
    tables_differ: int
    """Events whose last zap left other leaves present than the model says."""
    leaves: int
    """Leaves cleared by the kernel, all zaps together."""
    visits: int
    """Entries visited by the kernel, all zaps together."""

    @property
    def wrong(self) -> bool:
        """Some zap is not the policy's."""
        unexplained = self.visits_differ - self.yielded
        cleared = (self.leaves_differ, self.others_differ, self.tables_differ)
        return any((*cleared, unexplained, self.locks_differ))


def depth(task: Task, made: Program, record: Record, policy: Policy) -> Depth:
    """Compare every zap with a policy's. ``task`` had ``touch``, ``installs`` and ``visits``."""
    host = Host(
        maxphyaddr=record.maxphyaddr,
        ept=record.second_stage == "EPT",
        quirk_cd_nw_cleared=task.settings.quirk,
    )
    start = power_on(task.settings.maxphyaddr)
    table = _table(task, record)
    table.fill(start, MtMask(policy, host))
    found: Counter[str] = Counter()
    by_event: dict[int, list[Call | Change]] = {}
    for item in read(record.trace):
        by_event.setdefault(item.event, []).append(item)
    zaps = [item for items in by_event.values() for item in items if isinstance(item, Call)]
    for call in zaps:
        found.update(_differences(call, _cost(call, table, policy.walk, record), policy))
    asked = {request.event: request.ranges for request in replay(made.trace, policy, host)}
    present: set[Leaf] = set()
    for number, event in enumerate(made.trace.events):
        real = _after(present, by_event.get(number, ()))
        for part in asked.get(number, ()):
            table.zap(part, policy.walk)
        found["tables"] += not _agree(real, _leaves(table), event)
        table.fill(start, MtMask(policy, host))
    return Depth(
        zaps=len(zaps),
        leaves_differ=found["leaves"],
        others_differ=found["others"],
        visits_differ=found["visits"],
        yielded=found["yielded"],
        locks_differ=found["lock"],
        tables_differ=found["tables"],
        leaves=sum(call.leaves for call in zaps),
        visits=sum(call.visits for call in zaps),
    )


def _after(present: set[Leaf], items: Iterable[Call | Change]) -> set[Leaf]:
    """Bring the present leaves up to date, and return those after the event's last call.

    Without a call, those after the event: a vCPU that goes on after a zap faults its code in again.
    """
    found: set[Leaf] | None = None
    for item in items:
        if isinstance(item, Call):
            found = set(present)
            continue
        if item.was_leaf:
            present.discard((item.gfn, item.level))
        if item.is_leaf:
            present.add((item.gfn, item.level))
    return present if found is None else found


def _agree(real: set[Leaf], model: set[Leaf], event: Event) -> bool:
    """Tell if KVM has the model's leaves, or fewer where it may have left the whole root.

    It does so when the last vCPU that uses a root gets another CR0 other than by MOV to CR0.
    """
    return real <= model if event.kind in _LEAVES_ROOT else real == model


def _leaves(table: PageTable) -> set[Leaf]:
    return {
        (gfn, run.level)
        for run in table.leaves()
        for gfn in range(run.start, run.end, frames(run.level))
    }


def _table(task: Task, record: Record) -> PageTable:
    slot = Memslot(0, task.settings.memory >> PAGE_SHIFT, 2 if task.settings.huge else 1)
    return PageTable([slot], host_maxphyaddr=record.maxphyaddr)


def _cost(call: Call, table: PageTable, walk: Walk, record: Record) -> Zap:
    ranges = clamp([Range(call.start, call.end)], record.maxphyaddr)
    return table.cost(ranges[0], walk) if ranges else NOTHING


def _differences(call: Call, want: Zap, policy: Policy) -> Sequence[str]:
    found = []
    leaves = 0 if policy.walk is Walk.MARK else want.leaves
    others = 0 if policy.walk is Walk.LEAFS else want.entries
    if call.leaves != leaves:
        found.append("leaves")
    if call.others != others:
        found.append("others")
    if call.visits != want.visits:
        found.append("visits")
        if call.restarts:
            found.append("yielded")
    if call.lock and call.lock != ("write" if policy.mmu_lock is Lock.WRITE else "read"):
        found.append("lock")
    return found
