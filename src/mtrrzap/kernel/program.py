"""A trace as a program for a real VM, and the trace of what the program does.

The two differ where KVM has no single act for an event. A RESET is what user space does: it sets
CR0 and writes every MTRR, and KVM may zap for each write. So those writes are events of their own.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.record.tracker import PUT
from mtrrzap.guest.trace import Slot, Trace
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.perform import Op, Task
from mtrrzap.x86 import cr0
from mtrrzap.x86 import msr as m
from mtrrzap.x86.mtrr import PAT_RESET

_AFTER_RESET = (*PUT, (m.PAT, PAT_RESET))
_MIB = 1 << 20
_MSR = (Kind.WRMSR, Kind.HOST_WRMSR, Kind.HELD_MSR)


class Program(NamedTuple):
    """What is performed: ``trace`` says the same as ``ops``, event by event."""

    trace: Trace
    ops: tuple[Op, ...]
    skipped: int
    """Events left out: the recorded guest got #GP for a reason of its own."""


class Case(NamedTuple):
    """A program, with the quirk on or off."""

    trace: str
    """The trace's name."""
    quirk: bool
    program: Program

    def task(self, name: str, *, huge: bool = False, walks: bool = False) -> Task:
        """Return what a VM is to do; ``walks``: look at its page table too."""
        header = self.program.trace.header
        memory = header.memslots[0].end << 12
        settings = Settings(header.vcpus, header.maxphyaddr, self.quirk, 0, memory, huge)
        return Task(name, settings, self.program.ops, touch=walks, installs=walks, visits=walks)


def cases(traces: Sequence[tuple[str, Trace]]) -> list[Case]:
    """Return every trace with the quirk on and off."""
    made = [(name, of(trace, _memory(trace))) for name, trace in traces]
    return [Case(name, quirk, each) for name, each in made for quirk in (True, False)]


def _memory(trace: Trace) -> int:
    """Return bytes for a guest of so many vCPUs, each of which needs 12 KiB for itself."""
    return (2 + -(-trace.header.vcpus * 3 // 256)) * _MIB


def of(trace: Trace, memory: int) -> Program:
    """Return a trace's program, for a VM with one memslot of ``memory`` bytes."""
    events = tuple(_performed(trace.events))
    header = replace(trace.header, memslots=(Slot(0, memory >> 12, "ram"),))
    ops = tuple((e.vcpu, e.kind.value, e.msr, e.value) for e in events)
    skipped = sum(event.refused for event in trace.events)
    return Program(Trace(header, events, trace.incomplete), ops, skipped)


def _performed(events: Iterable[Event]) -> Iterator[Event]:
    written: set[int] = set()
    for event in events:
        if event.refused:
            continue
        if event.kind in _MSR:
            written.add(event.vcpu)
        if event.kind is not Kind.RESET or event.vcpu not in written:
            yield event._replace(time_ns=None)
            continue
        yield Event(event.vcpu, Kind.HELD_CR0, 0, cr0.RESET)
        for msr, value in _AFTER_RESET:
            yield Event(event.vcpu, Kind.HOST_WRMSR, msr, value)
