"""A trace in the JSON trace-event format, which the Perfetto UI and chrome://tracing open.

One track a vCPU; every event is an instant, every update window a slice around its events. What
policies ask for is another process: a replay has no clock, so a request is an instant at the event
that asks. How long requests would take is modelled, on a clock of its own (``perfetto_modelled``).
"""

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from mtrrzap.errors import counted
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.tdp import FullTable
from mtrrzap.kvm.windows import Window, windows
from mtrrzap.x86 import msr as m

Item = dict[str, Any]
"""One trace event."""
Stamps = Sequence[float]

PROCESS, REQUESTS_PROCESS = 1, 2
"""The ids under which the VM and the policies' requests appear."""


def chunks(trace: Trace, more: Callable[[Stamps], Iterable[Item]] | None = None) -> Iterator[str]:
    """Yield the JSON document in pieces, one trace event a line.

    ``more`` makes further trace events, given the time stamp of every event.
    """
    other = {
        "firmware": trace.header.firmware,
        "guest kernel": trace.header.guest_kernel,
        "recorder": trace.header.recorder,
        "incomplete": trace.incomplete or "no",
        "time": "recorded" if _timed(trace) else "order of events only: one microsecond an event",
    }
    yield f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(other)}, "traceEvents": [\n'
    separator = ""
    stamps = stamps_of(trace)
    for item in chain(trace_events(trace, stamps), more(stamps) if more else ()):
        yield separator + json.dumps(item)
        separator = ",\n"
    yield "\n]}\n"


def trace_events(trace: Trace, stamps: Stamps) -> Iterator[Item]:
    """Yield metadata, slices and instants as dicts; ``ts`` and ``dur`` are microseconds."""
    name = f"{trace.header.firmware}, {counted(trace.header.vcpus, 'vCPU')}"
    if trace.incomplete is not None:
        name += f" (INCOMPLETE: {trace.incomplete})"
    yield meta("process_name", 0, {"name": name})
    for vcpu in range(trace.header.vcpus):
        yield meta("thread_name", vcpu, {"name": f"vCPU {vcpu}"})
        yield meta("thread_sort_index", vcpu, {"sort_index": vcpu})
    for window in windows(trace):
        yield _slice(window, stamps)
    for position, event in enumerate(trace.events):
        yield {
            "name": title(event),
            "cat": event.kind.value,
            "ph": "i",
            "s": "t",
            "pid": PROCESS,
            "tid": event.vcpu,
            "ts": stamps[position],
            "args": {"event": position, "line": format_event(event)},
        }


def title(event: Event) -> str:
    """Return an event in a few words, its MSR by name."""
    if event.kind in (Kind.RESET, Kind.INIT):
        return event.kind.value.upper()
    register = m.name(event.msr) if event.msr else "CR0"
    refused = " #GP" if event.refused else ""
    return f"{register} = {event.value:#x}{refused}"


def _timed(trace: Trace) -> bool:
    return all(event.time_ns is not None for event in trace.events)


def stamps_of(trace: Trace) -> Stamps:
    """Return every event's time in microseconds, or its position where there are no times."""
    if _timed(trace):
        return array("d", ((event.time_ns or 0) / 1000 for event in trace.events))
    return array("d", range(len(trace.events)))


def meta(name: str, thread: int, args: dict[str, object], process: int = PROCESS) -> Item:
    """Return what names or orders a track."""
    return {"name": name, "ph": "M", "pid": process, "tid": thread, "args": args}


def _slice(window: Window, stamps: Stamps) -> Item:
    begin = stamps[window.first]
    end = stamps[-1] if window.last is None else stamps[window.last]
    return {
        "name": "update window" + (" (open)" if window.last is None else ""),
        "cat": "window",
        "ph": "X",
        "pid": PROCESS,
        "tid": window.vcpu,
        "ts": begin,
        "dur": max(end - begin, 0.0),
        "args": {
            "events": f"{window.first}-{'' if window.last is None else window.last}",
            "CD": window.cd,
            "DEF_TYPE writes": window.def_type_writes,
            "other MTRR writes": window.other_writes,
            "overlaps vCPUs": sorted(window.others),
        },
    }


# ---- requests ----------------------------------------------------------------------------------


def request_events(
    trace: Trace, policies: Sequence[Policy], host: Host, page_level: int, stamps: Stamps
) -> Iterator[Item]:
    """Yield a track for every policy, an instant for every request, and the counters.

    ``page_level`` is that of the pages of the full page table (``kvm.tdp.cost``).
    """
    yield meta("process_name", 0, {"name": "zap requests (counted)"}, REQUESTS_PROCESS)
    table = FullTable(trace.header, host, page_level)
    for number, policy in enumerate(policies):
        yield meta("thread_name", number, {"name": policy.name}, REQUESTS_PROCESS)
        yield meta("thread_sort_index", number, {"sort_index": number}, REQUESTS_PROCESS)
        yield from _of_policy(trace, policy, number, host, table, stamps)


def _of_policy(
    trace: Trace, policy: Policy, number: int, host: Host, table: FullTable, stamps: Stamps
) -> Iterator[Item]:
    if stamps:
        yield counter(f"requests so far, {policy.name}", stamps[0], requests=0)
    for count, request in enumerate(replay(trace, policy, host), start=1):
        at = stamps[request.event]
        yield {
            "name": request.why.value,
            "cat": "request",
            "ph": "i",
            "s": "t",
            "pid": REQUESTS_PROCESS,
            "tid": number,
            "ts": at,
            "args": {
                "policy": policy.name,
                "vCPU": request.vcpu,
                "event": request.event,
                "line": format_event(trace.events[request.event]),
                "ranges": " ".join(map(str, request.ranges)) or "none",
                "frames": request.frames,
            },
        }
        yield counter(f"requests so far, {policy.name}", at, requests=count)
        # Without a memory map nothing is known to be mapped.
        if table.leaves:
            left = table.left(request.ranges, policy.walk)
            yield counter(f"leaves left by the zap (at most), {policy.name}", at, leaves=left)


def counter(name: str, at: float, process: int = REQUESTS_PROCESS, **values: int) -> Item:
    """Return one value of a counter."""
    return {"name": name, "ph": "C", "pid": process, "tid": 0, "ts": at, "args": values}
