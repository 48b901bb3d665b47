"""What a trace holds: counts per vCPU, windows in order, final maps, agreement between vCPUs."""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm import lookup as memtype
from mtrrzap.kvm.vcpu import Vcpu, power_on, step
from mtrrzap.kvm.windows import states
from mtrrzap.x86 import msr as m
from mtrrzap.x86 import physmap
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs

MAP_ROWS = 200
"""Segments shown of one map; a mask with holes can make millions."""


class Summary(NamedTuple):
    """Counts of one vCPU's events."""

    vcpu: int
    guest_writes: int
    """WRMSR to MTRRs by the guest, refused ones too."""
    host_writes: int
    pat_writes: int
    def_type_writes: int
    """Of both guest and host."""
    cr0_writes: int
    cd_toggles: int
    """CR0 writes that change CD for real; RESET and INIT are none."""
    resets: int
    inits: int
    refused: int


class MapRow(NamedTuple):
    """A stretch of the physical map, in bytes, with both types; None: the manual defines none."""

    start: int
    end: int
    sdm: MemType | None
    kvm: MemType
    deciders: tuple[str, ...]
    """Registers, of the manual's lookup."""


class Group(NamedTuple):
    """vCPUs that end with the same MTRRs, and their common map."""

    vcpus: tuple[int, ...]
    mtrrs: Mtrrs
    map: tuple[MapRow, ...]
    whole: bool
    """False if the map has more than ``MAP_ROWS`` rows."""


def final_states(trace: Trace) -> list[Vcpu]:
    """Return every vCPU's state after the last event."""
    vcpus = [power_on(trace.header.maxphyaddr)] * trace.header.vcpus
    for _, event, _, after in states(trace):
        vcpus[event.vcpu] = after
    return vcpus


def summaries(trace: Trace) -> list[Summary]:
    """Count every vCPU's events."""
    per_vcpu: list[list[Event]] = [[] for _ in range(trace.header.vcpus)]
    for event in trace.events:
        per_vcpu[event.vcpu].append(event)
    toggles = [0] * trace.header.vcpus
    for _, event, before, after in states(trace):
        toggles[event.vcpu] += event.kind is Kind.CR0 and before.cd != after.cd
    return [_summary(n, events, toggles[n]) for n, events in enumerate(per_vcpu)]


def _summary(vcpu: int, events: list[Event], toggles: int) -> Summary:
    def count(*kinds: Kind, msrs: Iterable[int] = (0,)) -> int:
        return sum(event.kind in kinds and event.msr in msrs for event in events)

    return Summary(
        vcpu=vcpu,
        guest_writes=count(Kind.WRMSR, msrs=m.MTRR_MSRS),
        host_writes=count(Kind.HOST_WRMSR, msrs=m.MTRR_MSRS),
        pat_writes=count(Kind.WRMSR, Kind.HOST_WRMSR, msrs=(m.PAT,)),
        def_type_writes=count(Kind.WRMSR, Kind.HOST_WRMSR, msrs=(m.DEF_TYPE,)),
        cr0_writes=count(Kind.CR0),
        cd_toggles=toggles,
        resets=count(Kind.RESET),
        inits=count(Kind.INIT),
        refused=sum(event.refused for event in events),
    )


def unmarked_refusals(trace: Trace) -> list[tuple[int, Event, str]]:
    """Return (position, event, rule) of events that KVM would refuse though the trace does not."""
    found = []
    vcpus = [power_on(trace.header.maxphyaddr)] * trace.header.vcpus
    for position, event in enumerate(trace):
        vcpus[event.vcpu], rule = step(vcpus[event.vcpu], event)
        if rule is not None and not event.refused:
            found.append((position, event, rule))
    return found


def groups(trace: Trace) -> list[Group]:
    """Group the vCPUs by what their MTRRs read at the end (IA32_PAT is none), each with its map."""
    members: dict[tuple[int, ...], list[int]] = {}
    states = final_states(trace)
    for number, vcpu in enumerate(states):
        registers = tuple(vcpu.mtrrs.read(msr) for msr in sorted(m.MTRR_MSRS))
        members.setdefault(registers, []).append(number)
    found = []
    for vcpus in members.values():
        mtrrs = states[vcpus[0]].mtrrs
        rows = tuple(islice(both_maps(mtrrs), MAP_ROWS + 1))
        found.append(Group(tuple(vcpus), mtrrs, rows[:MAP_ROWS], len(rows) <= MAP_ROWS))
    return found


def both_maps(mtrrs: Mtrrs) -> Iterable[MapRow]:
    """Yield the manual's and KVM's map side by side, ascending; neighbours of a type are joined."""
    sdm, kvm = physmap.physical_map(mtrrs), memtype.physical_map(mtrrs)
    left, right = next(sdm, None), next(kvm, None)
    start = 0
    pending: MapRow | None = None
    while left is not None and right is not None:
        end = min(left.end, right.end)
        kind = right.type
        assert kind is not None, "KVM always has an answer"
        row = MapRow(start, end, left.type, kind, _registers(left.deciders))
        if pending is not None and pending[2:4] == row[2:4]:
            deciders = tuple(dict.fromkeys(pending.deciders + row.deciders))
            pending = pending._replace(end=end, deciders=deciders)
        else:
            if pending is not None:
                yield pending
            pending = row
        start = end
        if left.end == end:
            left = next(sdm, None)
        if right is not None and right.end == end:
            right = next(kvm, None)
    if pending is not None:
        yield pending


def _registers(deciders: tuple[str, ...]) -> tuple[str, ...]:
    """Drop the byte numbers of fixed MSRs."""
    return tuple(dict.fromkeys(name.partition("[")[0] for name in deciders))
