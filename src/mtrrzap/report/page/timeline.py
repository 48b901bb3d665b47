"""What happened when, as marks and spans on tracks: the events, and one policy's requests.

A ``Timeline`` says on what its figures rest. Both made here are *counted*: their order is that of
the trace. The *modelled* one (cycles, who waited for whom) is of the same type (``modelled``).
"""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.measured_costs import Cost
from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, Request, Why, replay
from mtrrzap.kvm.vcpu import Vcpu, power_on, step
from mtrrzap.kvm.windows import Window
from mtrrzap.report.perfetto import title
from mtrrzap.x86 import msr as m

MAX_LANES = 128
"""Tracks of one figure; vCPUs of larger guests share them."""
EVERY_RANGE = 6
"""Ranges of one request that are written out."""


class Basis(StrEnum):
    """What a figure rests on."""

    COUNTED = "counted"
    """It follows from the trace."""
    MEASURED = "measured"
    """A clock said so."""
    MODELLED = "modelled"
    """It follows from the trace and from assumed costs."""


class Mark(NamedTuple):
    """A moment on a track. ``at`` is the event's position; ``look`` a key of ``LOOKS``."""

    track: int
    at: int
    look: str
    host: bool
    """User space did it."""


class Bar(NamedTuple):
    """A stretch of a track, the places ``first`` to ``last`` included."""

    track: int
    first: int
    last: int
    look: str
    """A key of ``SPANS``."""
    times: tuple[int, int] | None = None
    """Nanoseconds of both ends, where all events have them."""
    line: int | None = None
    """The mark that it belongs to: pointing at it shows that one's line."""


class Timeline(NamedTuple):
    """Tracks of marks in order, with one line of text a mark."""

    name: str
    basis: Basis
    tracks: tuple[str, ...]
    length: int
    """Places on the axis: events, if there is no ``unit``."""
    marks: tuple[Mark, ...]
    lines: tuple[str, ...]
    spans: tuple[Bar, ...] = ()
    times: tuple[int, ...] | None = None
    """Nanoseconds of every mark, where all events have them."""
    end: int = 0
    """The last event's time."""
    unit: float = 1.0
    """What a place is on the axis, ..."""
    axis: str = "events"
    """... and of what."""

    def looks(self) -> dict[str, int]:
        """Return how many marks have each look, in the order of ``LOOKS``."""
        found = Counter(mark.look for mark in self.marks)
        return {look: found[look] for look in LOOKS if found[look]}

    def kinds(self) -> dict[str, int]:
        """Return how many spans have each look."""
        return dict(sorted(Counter(span.look for span in self.spans).items()))


LOOKS = {
    "reset": "RESET",
    "init": "INIT",
    "cr0": "CR0 write",
    "def": "DEF_TYPE write",
    "var": "variable MTRR write",
    "fix": "fixed MTRR write",
    "pat": "PAT write",
    "held": "register found to hold a value",
    "cd-set": "CD 0→1",
    "cd-clear": "CD 1→0",
}
"""Every kind of mark, in words; a request for an MTRR write looks as the write does."""

SPANS = {
    "cd": "update window, CD = 1",
    "off": "update window, MTRRs disabled",
    "zap": "zaps",
    "wait": "waits for another vCPU",
}
"""Every kind of span, in words."""

LOOK_OF_REQUEST = {
    Why.DEF_TYPE: "def",
    Why.FIXED: "fix",
    Why.VARIABLE: "var",
    Why.CD_SET: "cd-set",
    Why.CD_CLEARED: "cd-clear",
}
_OF_KIND = {
    Kind.RESET: "reset",
    Kind.INIT: "init",
    Kind.CR0: "cr0",
    Kind.HELD_CR0: "held",
    Kind.HELD_MSR: "held",
}


def look(event: Event) -> str:
    """Return the look of an event's mark."""
    if event.kind in _OF_KIND:
        return _OF_KIND[event.kind]
    if event.msr == m.DEF_TYPE:
        return "def"
    if event.msr == m.PAT:
        return "pat"
    return "fix" if event.msr in m.FIXED_INDEX else "var"


def events(trace: Trace, found: list[Window], costs: Iterable[Cost] = ()) -> Timeline:
    """Return the vCPUs' lanes: a mark an event, a span an update window."""
    count, shared = len(trace.events), sharing(trace)
    lines = _lines(trace)
    for cost in costs:
        lines[cost.event] += f" · measured: {cost.cost_ns / 1000:,.1f} µs from exit to entry"
    return Timeline(
        name="events",
        basis=Basis.COUNTED,
        tracks=tracks(trace),
        length=count,
        marks=tuple(
            Mark(event.vcpu // shared, position, look(event), event.kind is Kind.HOST_WRMSR)
            for position, event in enumerate(trace.events)
        ),
        lines=tuple(lines),
        spans=_spans(trace, found),
        times=_times(trace, range(count)),
        end=_end(trace),
    )


def requests(trace: Trace, windows: list[Window], policy: Policy, host: Host) -> Timeline:
    """Return one policy's requests on the events' axis: who asked, in the order of the trace."""
    found, shared = list(replay(trace, policy, host)), sharing(trace)
    return Timeline(
        name=f"requests of {policy.name}",
        basis=Basis.COUNTED,
        tracks=tracks(trace),
        length=len(trace.events),
        marks=tuple(
            Mark(r.vcpu // shared, r.event, LOOK_OF_REQUEST[r.why], host=False) for r in found
        ),
        lines=tuple(_request_line(request, trace) for request in found),
        spans=_spans(trace, windows),
        times=_times(trace, [request.event for request in found]),
        end=_end(trace),
    )


def sharing(trace: Trace) -> int:
    """Return how many vCPUs share a track."""
    return -(-trace.header.vcpus // MAX_LANES)


def tracks(trace: Trace) -> tuple[str, ...]:
    """Return the names of the tracks: of a vCPU each, or of several."""
    count, shared = trace.header.vcpus, sharing(trace)
    if shared == 1:
        return tuple(f"vCPU {number}" for number in range(count))
    firsts = range(0, count, shared)
    return tuple(f"vCPUs {first}-{min(first + shared, count) - 1}" for first in firsts)


def _times(trace: Trace, positions: Iterable[int]) -> tuple[int, ...] | None:
    stamps = [event.time_ns for event in trace.events]
    if not stamps or None in stamps:
        return None
    return tuple(stamps[position] or 0 for position in positions)


def _end(trace: Trace) -> int:
    return max((event.time_ns or 0 for event in trace.events), default=0)


def _spans(trace: Trace, found: list[Window]) -> tuple[Bar, ...]:
    timed, shared = _times(trace, range(len(trace.events))), sharing(trace)
    spans = []
    for window in found:
        last = len(trace.events) - 1 if window.last is None else window.last
        times = (timed[window.first], timed[last]) if timed else None
        look_ = "cd" if window.cd else "off"
        spans.append(Bar(window.vcpu // shared, window.first, last, look_, times))
    return tuple(spans)


def _lines(trace: Trace) -> list[str]:
    """Say every event as the trace has it, by its register's name, and what it did to CD."""
    states = [power_on(trace.header.maxphyaddr)] * trace.header.vcpus
    found = []
    for position, event in enumerate(trace.events):
        before = states[event.vcpu]
        after, refused = step(before, event)
        states[event.vcpu] = after
        words = [f"{position}: {format_event(event)}", title(event)]
        found.append(" · ".join(words + _effects(event, before, after, refused)))
    return found


def _effects(event: Event, before: Vcpu, after: Vcpu, refused: str | None) -> list[str]:
    if refused is not None:
        return [f"refused: {refused}"]
    words = ["by user space"] if event.kind is Kind.HOST_WRMSR else []
    if before.cd != after.cd:
        words.append("CD 0→1" if after.cd else "CD 1→0")
    if before.mtrrs.enabled != after.mtrrs.enabled:
        words.append(f"MTRRs {'on' if after.mtrrs.enabled else 'off'}")
    return words


def _request_line(request: Request, trace: Trace) -> str:
    shown = " ".join(map(str, request.ranges[:EVERY_RANGE])) or "no frame"
    if len(request.ranges) > EVERY_RANGE:
        shown += f" and {len(request.ranges) - EVERY_RANGE} more ranges"
    event = trace.events[request.event]
    return (
        f"{request.event}: {format_event(event)} · {request.why.value.replace('->', '→')} asks for "
        f"{shown} · {request.frames:,} frames"
    )
