"""What a trace contains: counts by vCPU, and the memory maps that the vCPUs end with."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.vcpu import Vcpu, power_on, step
from mtrrzap.kvm.windows import states
from mtrrzap.study.both_maps import MAX_ROWS, joined, map_rows
from mtrrzap.x86 import msr as m
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs


class VcpuCounts(NamedTuple):
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
    """CR0 writes that change CD; RESET and INIT do not count."""
    resets: int
    inits: int
    refused: int


class FinalRow(NamedTuple):
    """A stretch of the physical map, in bytes, with both types; None: the manual defines none."""

    start: int
    end: int
    sdm: MemType | None
    kvm: MemType
    deciders: tuple[str, ...]
    """Registers, of the manual's lookup."""


class FinalGroup(NamedTuple):
    """vCPUs that end with the same MTRRs, and their common map."""

    vcpus: tuple[int, ...]
    mtrrs: Mtrrs
    map: tuple[FinalRow, ...]
    whole: bool
    """False if the map has more than ``MAX_ROWS`` rows."""


def final_states(trace: Trace) -> list[Vcpu]:
    """Return every vCPU's state after the last event."""
    vcpus = [power_on(trace.header.maxphyaddr)] * trace.header.vcpus
    for _, event, _, after in states(trace):
        vcpus[event.vcpu] = after
    return vcpus


def summaries(trace: Trace) -> list[VcpuCounts]:
    """Count every vCPU's events."""
    per_vcpu: list[list[Event]] = [[] for _ in range(trace.header.vcpus)]
    for event in trace.events:
        per_vcpu[event.vcpu].append(event)
    toggles = [0] * trace.header.vcpus
    for _, event, before, after in states(trace):
        toggles[event.vcpu] += event.kind is Kind.CR0 and before.cd != after.cd
    return [_summary(n, events, toggles[n]) for n, events in enumerate(per_vcpu)]


def _summary(vcpu: int, events: list[Event], toggles: int) -> VcpuCounts:
    def count(*kinds: Kind, msrs: Iterable[int] = (0,)) -> int:
        return sum(event.kind in kinds and event.msr in msrs for event in events)

    return VcpuCounts(
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


def groups(trace: Trace) -> list[FinalGroup]:
    """Group the vCPUs by their final MTRRs (without IA32_PAT), each group with its map."""
    members: dict[tuple[int, ...], list[int]] = {}
    states = final_states(trace)
    for number, vcpu in enumerate(states):
        registers = tuple(vcpu.mtrrs.read(msr) for msr in sorted(m.MTRR_MSRS))
        members.setdefault(registers, []).append(number)
    found = []
    for vcpus in members.values():
        mtrrs = states[vcpus[0]].mtrrs
        rows = tuple(islice(final_map(mtrrs), MAX_ROWS + 1))
        found.append(FinalGroup(tuple(vcpus), mtrrs, rows[:MAX_ROWS], len(rows) <= MAX_ROWS))
    return found


def final_map(mtrrs: Mtrrs) -> Iterator[FinalRow]:
    """Yield the manual's and KVM's map side by side; neighbours with the same types are joined."""
    rows = (FinalRow(*row[:4], _registers(row.sdm_deciders)) for row in map_rows(mtrrs))
    return joined(rows, _one)


def _one(first: FinalRow, second: FinalRow) -> FinalRow | None:
    if first[2:4] != second[2:4]:
        return None
    deciders = tuple(dict.fromkeys(first.deciders + second.deciders))
    return first._replace(end=second.end, deciders=deciders)


def _registers(deciders: tuple[str, ...]) -> tuple[str, ...]:
    """Drop the byte numbers of fixed MSRs."""
    return tuple(dict.fromkeys(name.partition("[")[0] for name in deciders))
