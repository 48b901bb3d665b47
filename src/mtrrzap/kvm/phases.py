"""Which vCPUs act at once: phases, read off a trace's update windows.

An *update* begins when the guest sets CR0.CD or writes DEF_TYPE with E = 0, and ends when its vCPU
is outside of its window (``kvm.windows``). Firmware and kernels differ
in what they do in parallel, and the trace shows it. Where updates of several vCPUs overlap, nothing
orders them. Where they follow each other one by one, the guest holds a lock. So a trace falls into
phases, each of which begins when the one before has ended. Overlapping updates, and what happened
outside of updates just before them, are one phase. An update that overlaps no other is a phase.

A vCPU *runs* in a phase if its next event is not an INIT, which would wake it. A vCPU that runs
without an event spins: in stop_machine, in the firmware's lock, or polling the others.
"""

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from mtrrzap.guest.event import Event, Kind
from mtrrzap.kvm.replay import Events
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.kvm.windows import states
from mtrrzap.x86 import cr0
from mtrrzap.x86 import msr as m


class Stage(IntEnum):
    """How far the guest has booted, which says how much of its memory it has touched."""

    NOT_RUN = 0
    UNPAGED = 1
    """Firmware that has not turned paging on: it is small."""
    FIRMWARE = 2
    KERNEL = 3


@dataclass(slots=True)
class Phase:
    """Events that only their own vCPU orders. ``events``: vCPU -> positions, ascending."""

    first: int
    stage: Stage
    last: int = 0
    running: int = 0
    """vCPUs that run, those with events included."""
    woken: frozenset[int] = frozenset()
    """vCPUs that an INIT has woken for it."""
    sleepers: frozenset[int] = frozenset()
    """vCPUs that run no more after their last event: an INIT will wake them."""
    events: dict[int, list[int]] = field(default_factory=dict)

    @property
    def concurrent(self) -> bool:
        """Several vCPUs act at once."""
        return len(self.events) > 1


class Phases:
    """The phases of a trace in order: kept as a few numbers each, since a trace may have 10^5."""

    def __init__(self, trace: Events) -> None:
        self._events = tuple(trace)
        self._asleep = _Sleepers(self._events, trace.header.vcpus)
        self._number_of = array("i", [-1]) * len(self._events)
        self._order = array("I")  # the events' positions, phase after phase
        self._begins = array("I", [0])  # where in the order each phase begins, and the last ends
        self._stages = bytearray()
        self._running = array("I")
        stage = Stage.NOT_RUN
        for group in _groups(trace):
            for position, event, _, after in group:
                stage = max(stage, _stage(event, after))
                self._number_of[position] = len(self._stages)
                self._order.append(position)
            acting = {event.vcpu for _, event, _, _ in group}
            running = self._asleep.running(group[0][0], acting)
            self._running.append(running if stage is not Stage.NOT_RUN else 0)
            self._stages.append(stage)
            self._begins.append(len(self._order))

    def __len__(self) -> int:
        return len(self._stages)

    def __iter__(self) -> Iterator[Phase]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> Phase:
        number = range(len(self))[number]
        positions = self._order[self._begins[number] : self._begins[number + 1]]
        phase = Phase(positions[0], Stage(self._stages[number]), positions[-1])
        phase.running = self._running[number]
        for position in positions:
            phase.events.setdefault(self._events[position].vcpu, []).append(position)
        phase.woken = self._asleep.woken(phase.events)
        phase.sleepers = self._asleep.sleepers(phase.events)
        return phase

    def number_of(self, position: int) -> int | None:
        """Return the number of the phase that an event is part of; None: of none."""
        number = self._number_of[position]
        return None if number < 0 else number


def phases(trace: Events) -> Phases:
    """Return the phases in order. User space's writes, before the guest runs, go one by one."""
    return Phases(trace)


def _stage(event: Event, after: Vcpu) -> Stage:
    if event.kind is Kind.HOST_WRMSR:
        return Stage.NOT_RUN
    if after.cr0 & cr0.AM:  # operating systems set it, firmware does not use it
        return Stage.KERNEL
    return Stage.FIRMWARE if after.cr0 & cr0.PG else Stage.UNPAGED


_State = tuple[int, Event, Vcpu, Vcpu]


def _groups(trace: Events) -> Iterator[list[_State]]:
    loose: list[_State] = []  # outside of every update
    inside: list[_State] = []
    updating: set[int] = set()
    for state in states(trace):
        _, event, before, after = state
        vcpu = event.vcpu
        if event.kind is Kind.HOST_WRMSR:
            yield from _split(loose, [state])
            loose = []
            continue
        if event.kind not in (Kind.WRMSR, Kind.CR0):
            updating.discard(vcpu)
            if not inside and any(other.vcpu == vcpu for _, other, _, _ in loose):
                yield from _split(loose, [])  # the next wake-up waits for what this one began
                loose = []
            continue
        if _begins(event, before, after):
            updating.add(vcpu)
        if vcpu in updating:
            inside.append(state)
            if not after.updating:
                updating.discard(vcpu)
        else:
            (inside if updating else loose).append(state)
        if inside and not updating:
            yield from _split(loose, inside)
            loose, inside = [], []
    yield from _split(loose, inside)


def _begins(event: Event, before: Vcpu, after: Vcpu) -> bool:
    if event.kind is Kind.CR0:
        return after.cd and not before.cd
    return event.msr == m.DEF_TYPE and not event.value & m.DEF_TYPE_E


def _split(loose: list[_State], inside: list[_State]) -> Iterator[list[_State]]:
    """Join what precedes overlapping updates with them: the same wake-up began it."""
    vcpus = {event.vcpu for _, event, _, _ in inside}
    if not loose or not inside:
        yield from (part for part in (loose, inside) if part)
    elif len(vcpus) > 1 or vcpus == {event.vcpu for _, event, _, _ in loose}:
        yield loose + inside
    else:
        yield loose
        yield inside


class _Sleepers:
    """Tells which vCPUs run at an event; takes time for what changes between two questions."""

    _RUNS, _SLEEPS = 1, 2

    def __init__(self, events: Sequence[Event], vcpus: int) -> None:
        self._at = 0
        self._events = events
        self._after = bytearray(len(events))  # whether the event's vCPU runs after it; 0: as before
        coming: list[bool | None] = [None] * vcpus
        for position in reversed(range(len(events))):
            event = events[position]
            if event.kind not in (Kind.HOST_WRMSR, Kind.RESET):
                sleeps = coming[event.vcpu] is False
                self._after[position] = self._SLEEPS if sleeps else self._RUNS
                coming[event.vcpu] = event.kind is not Kind.INIT
        self._runs = [bool(first) for first in coming]
        self._count = sum(self._runs)
        self._woken = _first_since_init(events)

    def woken(self, acting: Mapping[int, Sequence[int]]) -> frozenset[int]:
        """Return the vCPUs whose first event here is the first since an INIT."""
        return frozenset(v for v, positions in acting.items() if positions[0] in self._woken)

    def sleepers(self, acting: Mapping[int, Sequence[int]]) -> frozenset[int]:
        """Return the vCPUs whose next event is an INIT."""
        then = self._after
        return frozenset(v for v, at in acting.items() if then[at[-1]] == self._SLEEPS)

    def running(self, position: int, acting: Collection[int]) -> int:
        """Count the vCPUs that run. Positions of successive calls must ascend."""
        while self._at < position:
            after = self._after[self._at]
            if after:
                vcpu, runs = self._events[self._at].vcpu, after == self._RUNS
                self._count += runs - self._runs[vcpu]
                self._runs[vcpu] = runs
            self._at += 1
        return self._count + sum(not self._runs[vcpu] for vcpu in acting)


def _first_since_init(events: Sequence[Event]) -> set[int]:
    found: set[int] = set()
    fresh: set[int] = set()
    for position, event in enumerate(events):
        if event.kind is Kind.INIT:
            fresh.add(event.vcpu)
        elif event.vcpu in fresh:
            fresh.discard(event.vcpu)
            found.add(position)
    return found
