"""What each zap cleared and visited in KVM's page table, against the modelled one.

The guest reads every page before every event, so all of its memory is mapped before every zap.
Before and after every zap the entries that are present must be those of the model, and so must
their types if the kernel computes EPT types.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from mtrrzap.gfn import PAGE_SHIFT, Range
from mtrrzap.guest.event import Event, Kind
from mtrrzap.kernel.alone import alone
from mtrrzap.kernel.calls import Call, Change, read, typed
from mtrrzap.kernel.judge import host_of
from mtrrzap.kernel.perform import Record, Task
from mtrrzap.kernel.program import Program
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import Lock, Policy, Walk
from mtrrzap.kvm.ranges import clamp
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.tdp import Memslot, PageTable
from mtrrzap.kvm.tdp.levels import frames
from mtrrzap.kvm.tdp.table import NOTHING, Zap
from mtrrzap.kvm.vcpu import Vcpu, power_on, step
from mtrrzap.x86.ept import EptType

Leaf = tuple[int, int]
"""gfn and level."""
_LEAVES_ROOT = frozenset({Kind.RESET, Kind.INIT, Kind.HELD_CR0})
"""Where KVM may leave the whole root: CR0 changes other than by MOV to CR0 on its last vCPU."""


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
    """Page tables that are not the model's, of two for each event: before its zap, and after it."""
    types_differ: int
    """Different leaves that ever had another type than the model's."""
    leaves: int
    """Leaves cleared by the kernel, all zaps together."""
    visits: int
    """Entries visited by the kernel, all zaps together."""
    types: int
    """Leaves whose EPT type the kernel told."""

    @property
    def wrong(self) -> bool:
        """Some zap, entry or type is not the policy's."""
        unexplained = self.visits_differ - self.yielded
        entries = (self.leaves_differ, self.others_differ, self.tables_differ, self.types_differ)
        return any((*entries, unexplained, self.locks_differ))


def depth(task: Task, made: Program, record: Record, policy: Policy) -> Depth:
    """Compare every zap with a policy's. ``task`` had ``touch``, ``installs`` and ``visits``."""
    host = host_of(record, quirk=task.settings.quirk)
    asked = {request.event: request.ranges for request in replay(made.trace, policy, host)}
    types = typed(record.trace)
    both = _Both(task, policy, replace(host, ept=host.ept or types > 0))
    calls = []
    for moment in moments(made, record):
        both.follow(moment, asked.get(moment.position, ()))
        calls += moment.calls
    found = both.found
    return Depth(
        zaps=len(calls),
        leaves_differ=found["leaves"],
        others_differ=found["others"],
        visits_differ=found["visits"],
        yielded=found["yielded"],
        locks_differ=found["lock"],
        tables_differ=found["tables"],
        types_differ=len(both.wrong_types),
        leaves=sum(call.leaves for call in calls),
        visits=sum(call.visits for call in calls),
        types=types,
    )


class Moment(NamedTuple):
    """An event, also a refused one, with its vCPU's states, and what KVM did."""

    event: Event
    position: int
    before: Vcpu
    after: Vcpu
    touched: list[Change]
    """Before its first call, while the guest reads its memory."""
    calls: list[Call]
    zapped: list[Change]
    late: list[Change]
    """After its last call."""


def moments(made: Program, record: Record) -> Iterator[Moment]:
    """Yield what became of each event."""
    header = made.trace.header
    vcpus = [power_on(header.maxphyaddr)] * header.vcpus
    by_event: dict[int, list[Call | Change]] = {}
    for item in read(record.trace):
        by_event.setdefault(item.event, []).append(item)
    for position, event in enumerate(made.trace.events):
        before = vcpus[event.vcpu]
        vcpus[event.vcpu], _ = step(before, event)
        moment = Moment(event, position, before, vcpus[event.vcpu], [], [], [], [])
        for item in by_event.get(position, ()):
            if isinstance(item, Call):
                moment.calls.append(item)
            elif item.zapped:
                moment.zapped.append(item)
            else:
                (moment.late if moment.zapped or moment.calls else moment.touched).append(item)
        yield moment


class Entries:
    """The present entries of KVM's page table, change by change."""

    def __init__(self) -> None:
        self.leaves: dict[Leaf, EptType | None] = {}
        self.tables: set[Leaf] = set()

    def take(self, changes: Iterable[Change]) -> None:
        """Bring them up to date."""
        for change in changes:
            key = change.gfn, change.level
            self.leaves.pop(key, None)
            self.tables.discard(key)
            if change.is_leaf:
                self.leaves[key] = change.type
            elif change.is_table:
                self.tables.add(key)


class _Both:
    """KVM's page table, and the model's beside it."""

    def __init__(self, task: Task, policy: Policy, host: Host) -> None:
        self.found: Counter[str] = Counter()
        self.wrong_types: set[Leaf] = set()
        self._policy, self._host, self._mask = policy, host, MtMask(policy, host)
        self._slot = Memslot(0, task.settings.memory >> PAGE_SHIFT, 2 if task.settings.huge else 1)
        self._new_root()

    def _new_root(self) -> None:
        self._table = PageTable([self._slot], host_maxphyaddr=self._host.maxphyaddr)
        self._real = Entries()
        self._may_leave_root = False

    def follow(self, moment: Moment, asked: tuple[Range, ...]) -> None:
        """Follow one event: the guest touches all memory, zaps, and faults after them."""
        new = (c.gfn for c in moment.touched if c.is_leaf and not c.was_present)
        if self._may_leave_root and any(map(self._table.mapped, new)):
            self._new_root()
        self._real.take(moment.touched)
        if moment.event.kind in _LEAVES_ROOT and not self._real.leaves:
            self._new_root()
            return
        self._table.fill(moment.before, self._mask)
        self._compare()
        for call in moment.calls:
            cost = _cost(call, self._table, self._policy.walk, self._host)
            self.found.update(_differences(call, cost, self._policy))
        self._real.take(moment.zapped)
        for part in alone(self._policy.protocol, asked):
            self._table.zap(part, self._policy.walk)
        self._compare()
        self._may_leave_root |= moment.event.kind in _LEAVES_ROOT
        self._real.take(moment.late)
        for change in moment.late:
            if change.is_leaf:
                self._table.fault(change.gfn, moment.after, self._mask)

    def _compare(self) -> None:
        model = {
            (gfn, run.level): run.type
            for run in self._table.leaves()
            for gfn in range(run.start, run.end, frames(run.level))
        }
        real = self._real
        same = real.leaves.keys() == model.keys() and 1 + len(real.tables) == self._table.pages
        self.found["tables"] += not same
        both = real.leaves.keys() & model.keys()
        self.wrong_types |= {key for key in both if real.leaves[key] != model[key]}


def _cost(call: Call, table: PageTable, walk: Walk, host: Host) -> Zap:
    ranges = clamp([Range(call.start, call.end)], host.maxphyaddr)
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
