"""A trace as a program for a real VM, and the trace of what the program does.

The two differ where KVM has no single act for an event. A RESET is what user space does: it sets
CR0 and writes every MTRR, and KVM may zap for each write. So those writes are events of their own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.record.tracker import PUT
from mtrrzap.guest.trace import Slot, Trace
from mtrrzap.kernel.perform import Op
from mtrrzap.x86 import cr0
from mtrrzap.x86 import msr as m
from mtrrzap.x86.mtrr import PAT_RESET

_AFTER_RESET = (*PUT, (m.PAT, PAT_RESET))
_MSR = (Kind.WRMSR, Kind.HOST_WRMSR, Kind.HELD_MSR)


class Program(NamedTuple):
    """What is performed: ``trace`` says the same as ``ops``, event by event."""

    trace: Trace
    ops: tuple[Op, ...]
    skipped: int
    """Events left out: the recorded guest got #GP for a reason of its own."""


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
