"""What policies ask for, as tracks beside a trace in the JSON trace-event format.

A replay counts and has no clock: a request is an instant at the event that asks, no slice; slices
are in ``perfetto_modelled``, which has another clock. Two
counters a policy: requests so far, and the leaves that the zap leaves behind, at most.
"""

from collections.abc import Iterator, Sequence

from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.tdp import FullTable
from mtrrzap.report.perfetto import Item, Stamps, meta

PROCESS = 2
"""The id under which the policies appear."""


def request_events(
    trace: Trace, policies: Sequence[Policy], host: Host, page_level: int, stamps: Stamps
) -> Iterator[Item]:
    """Yield a track for every policy, an instant for every request, and the counters.

    ``page_level`` is that of the pages of the full page table (``kvm.tdp.cost``).
    """
    yield meta("process_name", 0, {"name": "zap requests (counted)"}, PROCESS)
    table = FullTable(trace.header, host, page_level)
    for number, policy in enumerate(policies):
        yield meta("thread_name", number, {"name": policy.name}, PROCESS)
        yield meta("thread_sort_index", number, {"sort_index": number}, PROCESS)
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
            "pid": PROCESS,
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


def counter(name: str, at: float, process: int = PROCESS, **values: int) -> Item:
    """Return one value of a counter."""
    return {"name": name, "ph": "C", "pid": process, "tid": 0, "ts": at, "args": values}
