"""Who zaps and who waits, modelled, as tracks in the JSON trace-event format.

Each policy is a process of its own, with a track for every vCPU and its own clock: modelled cycles
since the first request, of which one is shown as one nanosecond. Nothing here is counted, and the
clock has nothing to do with that of the trace's events.
"""

from collections.abc import Iterator, Mapping, Sequence

from mtrrzap.gfn import Range
from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.tdp import FullTable
from mtrrzap.report.perfetto import Item, counter, meta
from mtrrzap.report.text import MEMORY_UNKNOWN
from mtrrzap.simulator import Costs, Guest, Served, by_phase, cost_model
from mtrrzap.study.units import millions

PROCESS = 3
"""The id under which the first policy appears; the next ones count up."""
CYCLES = 1000
"""Cycles in a microsecond, the format's unit: one nanosecond a cycle."""


def modelled_events(
    trace: Trace, policies: Sequence[Policy], host: Host, page_level: int
) -> Iterator[Item]:
    """Yield for every policy that asks for anything: requests, in them zaps and waits, a counter.

    ``page_level`` is that of the host's pages (``kvm.tdp.cost``).
    """
    if not trace.header.memory_known:
        yield meta("process_name", 0, {"name": f"MODELLED: {MEMORY_UNKNOWN}"}, PROCESS)
        return
    guest = Guest.of(trace, host, page_level, cost_model.costs())
    table = FullTable(trace.header, host, page_level)
    for process, policy in enumerate(policies, PROCESS):
        yield from _of_policy(trace, policy, host, guest, table, process)


def _of_policy(
    trace: Trace, policy: Policy, host: Host, guest: Guest, table: FullTable, process: int
) -> Iterator[Item]:
    entries = _Entries(policy, table, guest.costs, process)
    cycles = 0.0
    # One phase in memory at a time: all of a long trace take hundreds of megabytes.
    for cost, returned in by_phase(guest, policy, replay(trace, policy, host)):
        for served in returned:
            yield from _request(served, trace, process)
        yield from entries.after(returned)
        cycles += cost.spent.total
    if entries.begun:
        yield from entries.end()
        yield from _names(trace, policy, cycles, process)


def _names(trace: Trace, policy: Policy, cycles: float, process: int) -> Iterator[Item]:
    name = (
        f"{policy.name}, MODELLED, one pattern of arrivals: {millions(cycles):,g} Mcycles, "
        "accurate to within a factor of "
        f"{cost_model.error_factor():.2f}; 1 ns is 1 modelled cycle"
    )
    yield meta("process_name", 0, {"name": name}, process)
    yield meta("process_sort_index", 0, {"sort_index": process}, process)
    for vcpu in range(trace.header.vcpus):
        yield meta("thread_name", vcpu, {"name": f"vCPU {vcpu} (modelled)"}, process)
        yield meta("thread_sort_index", vcpu, {"sort_index": vcpu}, process)


def _request(served: Served, trace: Trace, process: int) -> Iterator[Item]:
    spent = {f"{name}, modelled cycles": round(c) for name, c in served.spent._asdict().items()}
    yield _slice(
        f"request: {served.why.value}",
        *("request", served.vcpu, served.begin, served.end, process),
        {
            "event": served.event,
            "line": format_event(trace.events[served.event]),
            "zaps": served.zaps,
            **spent,
        },
    )
    for part in served.stretches:
        if part.range is not None:
            name, kind = f"zap {part.range}", "zap"
        else:
            name, kind = f"waits for vCPU {part.waited_for}", "wait"
        cycles = {"modelled cycles": round(part.end) - round(part.begin)}
        yield _slice(name, kind, served.vcpu, part.begin, part.end, process, cycles)


def _slice(
    name: str,
    kind: str,
    vcpu: int,
    begin: float,
    end: float,
    process: int,
    args: Mapping[str, object],
) -> Item:
    """Return a slice; whole nanoseconds, so that those inside another one stay inside."""
    first = round(begin)
    return {
        "name": name,
        "cat": f"modelled {kind}",
        "ph": "X",
        "pid": process,
        "tid": vcpu,
        "ts": first / CYCLES,
        "dur": (round(end) - first) / CYCLES,
        "args": args,
    }


class _Entries:
    """An upper bound of the entries present (leaves), as a counter.

    All memory is mapped at first. A walk's end takes what lies in its range; no fault succeeds
    while there is a zap, and one page fault's time after the last one all memory is mapped again.
    """

    def __init__(self, policy: Policy, table: FullTable, costs: Costs, process: int) -> None:
        self.begun = False
        self._policy, self._table, self._retry, self._process = policy, table, costs.retry, process
        self._zapped: tuple[Range, ...] = ()
        self._active = 0
        self._idle_since = 0.0

    def after(self, returned: Sequence[Served]) -> Iterator[Item]:
        """Yield the counter's values in a phase, in which nothing of another one goes on."""
        full = self._table.leaves
        if full and not self.begun:  # without a memory map nothing is known to be mapped
            yield self._value(0.0, full)
        self.begun = True
        for at, change, walked in _changes(returned) if full else ():
            if change > 0:
                if not self._active and at >= self._idle_since + self._retry:
                    yield from self.end()
                self._active += 1
                continue
            self._active -= 1
            self._idle_since = at
            if walked not in self._zapped:
                self._zapped = (*self._zapped, walked)
            yield self._value(at, self._table.left(self._zapped, self._policy.walk))

    def end(self) -> Iterator[Item]:
        """Yield the value once all that was zapped is mapped again."""
        if self._zapped:
            yield self._value(self._idle_since + self._retry, self._table.leaves)
            self._zapped = ()

    def _value(self, at: float, leaves: int) -> Item:
        name = "entries present (at most, modelled)"
        return counter(name, round(at) / CYCLES, self._process, leaves=leaves)


def _changes(returned: Sequence[Served]) -> list[tuple[float, int, Range]]:
    """Return every walk's begin (+1) and end (-1) in order; ends come first where they meet."""
    found = []
    for served in returned:
        for part in served.stretches:
            if part.range is not None:
                found += [(part.begin, 1, part.range), (part.end, -1, part.range)]
    return sorted(found)
