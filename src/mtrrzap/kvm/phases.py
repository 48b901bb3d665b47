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

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from mtrrzap.guest.event import Event, Kind
from mtrrzap.kvm.replay import Events
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.kvm.windows import states
from mtrrzap.x86 import msr as m

AM = 1 << 18
"""CR0.AM: operating systems set it, firmware does not use it."""
PG = 1 << 31
E = 1 << 11


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


def phases(trace: Events) -> list[Phase]:
    """Return the phases in order. User space's writes, before the guest runs, go one by one."""
    found: list[Phase] = []
    asleep = _Sleepers(list(trace), trace.header.vcpus)
    stage = Stage.NOT_RUN
    for group in _groups(trace):
        for _, event, _, after in group:
            stage = max(stage, _stage(event, after))
        phase = Phase(first=group[0][0], last=group[-1][0], stage=stage)
        for position, event, _, _ in group:
            phase.events.setdefault(event.vcpu, []).append(position)
        phase.running = asleep.running(phase.first, phase.events)
        phase.woken = asleep.woken(phase.events)
        phase.sleepers = asleep.sleepers(phase.events)
        if stage is Stage.NOT_RUN:
            phase.running = 0
        found.append(phase)
    return found


def _stage(event: Event, after: Vcpu) -> Stage:
    if event.kind is Kind.HOST_WRMSR:
        return Stage.NOT_RUN
    if after.cr0 & AM:
        return Stage.KERNEL
    return Stage.FIRMWARE if after.cr0 & PG else Stage.UNPAGED


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
    return event.msr == m.DEF_TYPE and not event.value & E


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
    """Tells how many vCPUs run at an event; takes time for what changes between two questions."""

    def __init__(self, events: Sequence[Event], vcpus: int) -> None:
        self._at = 0
        self._after: list[tuple[int, bool]] = []
        coming: list[bool | None] = [None] * vcpus
        for event in reversed(events):
            if event.kind in (Kind.HOST_WRMSR, Kind.RESET):
                continue
            then = coming[event.vcpu]
            self._after.append((event.vcpu, True if then is None else then))
            coming[event.vcpu] = event.kind is not Kind.INIT
        self._after.reverse()
        self._runs = [bool(first) for first in coming]
        self._count = sum(self._runs)
        guest = (Kind.HOST_WRMSR, Kind.RESET)
        self._positions = [i for i, e in enumerate(events) if e.kind not in guest]
        self._sleeps = {
            at for at, (_, runs) in zip(self._positions, self._after, strict=True) if not runs
        }
        self._woken = _first_since_init(events)

    def woken(self, acting: Mapping[int, Sequence[int]]) -> frozenset[int]:
        """Return the vCPUs whose first event here is the first since an INIT."""
        return frozenset(v for v, positions in acting.items() if positions[0] in self._woken)

    def sleepers(self, acting: Mapping[int, Sequence[int]]) -> frozenset[int]:
        """Return the vCPUs whose next event is an INIT."""
        return frozenset(v for v, positions in acting.items() if positions[-1] in self._sleeps)

    def running(self, position: int, acting: Collection[int]) -> int:
        """Count the vCPUs that run. Positions of successive calls must ascend."""
        while self._at < len(self._positions) and self._positions[self._at] < position:
            vcpu, runs = self._after[self._at]
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
