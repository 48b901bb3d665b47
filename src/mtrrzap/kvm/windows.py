"""The update windows of a trace: the time in which a vCPU changes its MTRRs, in events."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mtrrzap.guest.event import Event, Kind
from mtrrzap.kvm.replay import Events
from mtrrzap.kvm.vcpu import Vcpu, power_on, step
from mtrrzap.x86 import msr as m


def states(trace: Events) -> Iterator[tuple[int, Event, Vcpu, Vcpu]]:
    """Yield (position, event, state before, state after) of each event that KVM does not refuse."""
    vcpus = [power_on(trace.header.maxphyaddr)] * trace.header.vcpus
    for position, event in enumerate(trace):
        before = vcpus[event.vcpu]
        after, refused = step(before, event)
        if refused is None:
            vcpus[event.vcpu] = after
            yield position, event, before, after


@dataclass(slots=True)
class Window:
    """From the event that sets CR0.CD or disables the MTRRs to the one after which neither holds.

    ``first`` and ``last`` are positions in the trace; ``last`` is None while the window is open.
    """

    vcpu: int
    first: int
    last: int | None = None
    cd: bool = False
    """CR0.CD was 1 in it."""
    def_type_writes: int = 0
    other_writes: int = 0
    """Writes to fixed and variable MTRRs."""
    others: set[int] = field(default_factory=set)
    """vCPUs whose windows overlap this one in the order of events."""


def windows(trace: Events) -> list[Window]:
    """Return the update windows in order of their start. RESET opens one on a vCPU."""
    found: list[Window] = []
    open_now: dict[int, Window] = {}
    for position, event, _, after in states(trace):
        window = open_now.get(event.vcpu)
        if window is None:
            if not after.updating:
                continue
            window = Window(event.vcpu, position, others=set(open_now))
            for other in open_now.values():
                other.others.add(event.vcpu)
            open_now[event.vcpu] = window
            found.append(window)
        _count(window, event, after)
        if not after.updating:
            window.last = position
            del open_now[event.vcpu]
    return found


def _count(window: Window, event: Event, after: Vcpu) -> None:
    window.cd = window.cd or after.cd
    if event.kind in (Kind.WRMSR, Kind.HOST_WRMSR):
        window.def_type_writes += event.msr == m.DEF_TYPE
        window.other_writes += event.msr in m.MTRR_MSRS and event.msr != m.DEF_TYPE
