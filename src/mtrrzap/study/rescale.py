"""The same guest with more vCPUs or more memory, where a recording tells what that guest would do.

vCPUs: vCPU 0 boots, and the others do what it tells them. If all others do the same in the same
order, one more would do it too. If they differ, rescaling is refused.

Memory: firmware puts what does not fit below 4 GiB above it, so the highest memslot grows. That is
sound if there is such a memslot, and if no variable range reaches into the new memory. A guest with
too small a MAXPHYADDR gets a larger one, and its range masks get the bits that this would add.
"""

from collections.abc import Iterator
from dataclasses import replace

from mtrrzap.errors import UserError
from mtrrzap.gfn import PAGE_SHIFT
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Header, Slot, Trace
from mtrrzap.kvm.lookup import variable_ranges
from mtrrzap.kvm.phases import phases
from mtrrzap.kvm.windows import states
from mtrrzap.x86 import msr as m
from mtrrzap.x86.physmap import FOUR_GIB

LARGER_MAXPHYADDR = 46
VCPUS, MEMORY = "vcpus", "memory"
"""What an error is about, as a caller names it."""


def with_vcpus(trace: Trace, vcpus: int) -> Trace:
    """Return the trace of a guest with so many vCPUs. Raises ``UserError`` where it is unsound."""
    old = trace.header.vcpus
    if vcpus == old:
        return trace
    if min(old, vcpus) < 2:
        what = "a second vCPU does" if old < 2 else "vCPU 0 does without others"
        raise UserError(f"the trace does not show what {what}", place=VCPUS, mend="record it")
    if trace.incomplete is not None:
        raise UserError(f"the trace is incomplete: {trace.incomplete}", place=VCPUS)
    _refuse_unlike(trace)
    copies = {0: [0]} | {v: list(range(v, vcpus, old - 1)) for v in range(1, old)}
    events = tuple(_copied(trace, copies))
    note = f"rescaled: recorded with {old} vCPUs; vCPUs 1 and up repeat each other"
    header = replace(trace.header, vcpus=vcpus, notes=(*trace.header.notes, note))
    return replace(trace, header=header, events=events, zaps=None)


def _refuse_unlike(trace: Trace) -> None:
    does: list[list[Event]] = [[] for _ in range(trace.header.vcpus)]
    for event in trace.events:
        does[event.vcpu].append(event._replace(vcpu=0, time_ns=None))
    for vcpu, mine in enumerate(does[2:], start=2):
        if mine != does[1]:
            raise UserError(
                f"vCPUs 1 and {vcpu} differ, so what another one would do is unknown", place=VCPUS
            )


def _copied(trace: Trace, copies: dict[int, list[int]]) -> Iterator[Event]:
    """Repeat concurrent events one by one, and what one vCPU does alone as a whole."""
    alone = {p.first: p.last for p in phases(trace) if not p.concurrent}
    position = 0
    while position < len(trace.events):
        last = alone.get(position, position)
        block = trace.events[position : last + 1]
        for vcpu in copies[block[0].vcpu]:
            mine = (event for event in block if event.vcpu == block[0].vcpu)
            yield from (event._replace(vcpu=vcpu, time_ns=None) for event in mine)
        position = last + 1


def with_memory(trace: Trace, memory: int) -> Trace:
    """Return the trace of a guest with so many bytes. Raises ``UserError`` where it is unsound."""
    header = trace.header
    if memory == header.memory:
        return trace
    high = [slot for slot in header.memslots if slot.start << PAGE_SHIFT >= FOUR_GIB]
    end = max((slot.end for slot in high), default=0) + (memory - header.memory >> PAGE_SHIFT)
    if not high or end <= high[-1].start:
        raise UserError(
            "only memory above 4 GiB can grow or shrink: what is below depends on the machine",
            place=MEMORY,
            mend="record a guest of that size" if not high else "give more",
        )
    larger = replace(header, memory=memory, memslots=tuple(_grown(header, end)))
    wide = trace
    if end << PAGE_SHIFT > 1 << header.maxphyaddr:
        if end << PAGE_SHIFT > 1 << LARGER_MAXPHYADDR:
            raise UserError(f"needs more than {LARGER_MAXPHYADDR} address bits", place=MEMORY)
        wide = _widened(trace)
        larger = replace(larger, maxphyaddr=LARGER_MAXPHYADDR)
    _refuse_overlap(wide, header.memory, end)
    note = f"rescaled: recorded with {header.memory} bytes of memory"
    return replace(wide, header=replace(larger, notes=(*header.notes, note)), zaps=None)


def _grown(header: Header, end: int) -> Iterator[Slot]:
    top = max(header.memslots, key=lambda slot: slot.end)
    yield from (slot._replace(end=end) if slot is top else slot for slot in header.memslots)


def _widened(trace: Trace) -> Trace:
    """Give each mask that reaches the guest's MAXPHYADDR the bits up to the larger one."""
    old = trace.header.maxphyaddr
    more = (1 << LARGER_MAXPHYADDR) - (1 << old)
    events = tuple(
        event._replace(value=event.value | more)
        if event.kind in (Kind.WRMSR, Kind.HOST_WRMSR)
        and event.msr in m.MTRR_MSRS
        and m.PHYSBASE0 <= event.msr < m.PHYSBASE0 + 16
        and event.msr % 2
        and event.value >> (old - 1) & 1
        else event
        for event in trace.events
    )
    return replace(trace, header=replace(trace.header, maxphyaddr=LARGER_MAXPHYADDR), events=events)


def _refuse_overlap(trace: Trace, memory: int, end: int) -> None:
    begin = max(memory, FOUR_GIB)
    for mtrrs in dict.fromkeys(after.mtrrs for _, _, _, after in states(trace)):
        for r in variable_ranges(mtrrs):
            if r.start < end << PAGE_SHIFT and r.end > begin:
                raise UserError(
                    f"a variable MTRR of the trace covers [{r.start:#x}, {r.end:#x}), where the "
                    "new memory is; the guest would have placed it elsewhere",
                    place=MEMORY,
                )
