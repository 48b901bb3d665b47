"""What each vCPU does, in order, and whom it waits for: a trace as programs for the test guest."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.phases import Phases, phases
from mtrrzap.kvm.vcpu import Vcpu, power_on, step
from mtrrzap.live.guest import GuestOp, TableEntry
from mtrrzap.x86 import cr0

_BY_GUEST = (Kind.WRMSR, Kind.CR0)
_OF_CR0 = (Kind.CR0, Kind.RESET, Kind.INIT, Kind.HELD_CR0)


class Item(NamedTuple):
    """One event, and what the guest does for it."""

    position: int
    """In the trace."""
    phase: int | None
    """The number of the phase that must have begun; None: there is nothing to wait for."""
    event: Event
    entry: TableEntry | None
    """None for what user space does."""
    refused: bool
    """The event ends in #GP."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole trace, divided among its vCPUs."""

    trace: Trace
    items: tuple[tuple[Item, ...], ...]
    """For each vCPU its events in order."""
    cd_nw: tuple[int, ...]
    """CR0.CD and CR0.NW with which each vCPU starts to run."""
    waits_for: tuple[frozenset[int], ...]
    """For each phase the vCPUs that have something to do in it."""

    def tables(self) -> list[list[TableEntry]]:
        """Return what the guest does on each vCPU."""
        return [[i.entry for i in mine if i.entry is not None] for mine in self.items]


def plan(trace: Trace) -> Plan:
    """Divide a trace among its vCPUs.

    Events inside phases keep the order of the phases (``kvm.phases``). Others ask for nothing
    (they are refused, or not a write), and wait for the phase of their vCPU's next event.
    """
    found = phases(trace)
    mine: list[list[tuple[int, Event]]] = [[] for _ in range(trace.header.vcpus)]
    for position, event in enumerate(trace.events):
        mine[event.vcpu].append((position, event))
    programs = [_program(events, trace.header.maxphyaddr) for events in mine]
    items = tuple(tuple(_in_phases(done, found)) for done, _ in programs)
    waits_for: list[set[int]] = [set() for _ in range(len(found))]
    for vcpu, program in enumerate(items):
        for item in program:
            if item.phase is not None:
                waits_for[item.phase].add(vcpu)
    bits = tuple(first & cr0.CD_NW for _, first in programs)
    return Plan(trace, items, bits, tuple(map(frozenset, waits_for)))


def _program(events: list[tuple[int, Event]], maxphyaddr: int) -> tuple[list[Item], int]:
    """Return a vCPU's items without their phases, and CR0 as of when it starts to run."""
    state, start = power_on(maxphyaddr), None
    items = []
    for position, event in events:
        after, rule = step(state, event)
        if start is None and event.kind in _BY_GUEST:
            start = state.cr0
        entry = None if start is None else _entry(event, after, refused=rule is not None)
        items.append(Item(position, None, event, entry, rule is not None))
        state = after
    return items, state.cr0 if start is None else start


def _entry(event: Event, after: Vcpu, *, refused: bool) -> TableEntry | None:
    """Return what the guest does, also for INIT and the like, so that it has the trace's CR0.CD."""
    if event.kind is Kind.WRMSR:
        return TableEntry(GuestOp.WRMSR, event.msr, event.value)
    if event.kind not in _OF_CR0:
        return None
    if refused:
        return TableEntry(GuestOp.MOV_CR0, 0, event.value) if event.kind is Kind.CR0 else None
    return TableEntry(GuestOp.SET_CD_NW, 0, after.cr0 & cr0.CD_NW)


def _in_phases(items: list[Item], found: Phases) -> Iterator[Item]:
    known = [found.number_of(item.position) for item in items]
    following: int | None = None
    phase_of: list[int | None] = []
    for number in reversed(known):
        following = number if number is not None else following
        phase_of.append(following)
    last: int | None = None
    for item, number in zip(items, reversed(phase_of), strict=True):
        last = number if number is not None else last
        yield item._replace(phase=last)
