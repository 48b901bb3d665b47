"""Who zapped and who waited under one policy, by the simulator: a timeline, and its sums."""

from typing import NamedTuple

from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.policy import Policy
from mtrrzap.report.page.timeline import (
    LOOK_OF_REQUEST,
    Bar,
    Basis,
    Mark,
    Timeline,
    sharing,
    tracks,
)
from mtrrzap.simulator import Result, Served, Spent, Stretch
from mtrrzap.study.units import with_unit

STEPS = 100_000
"""Places along the axis; a place is a whole number of cycles."""
EVERY_STRETCH = 6
"""Zaps and waits of one request that are written out."""


class Share(NamedTuple):
    """What one vCPU's requests came to, in modelled cycles."""

    vcpu: int
    requests: int
    walks: int
    """Zaps that it made, for itself or for others."""
    spent: Spent
    longest: float
    """Its longest time in a single request."""


def timeline(trace: Trace, policy: Policy, result: Result) -> Timeline:
    """Return a mark where each request begins, and a span for each zap and each wait in it."""
    served = sorted(result.served, key=lambda s: (s.begin, s.vcpu))
    end = max((s.end for s in served), default=0.0)
    place, shared = max(1, -(-int(end) // STEPS)), sharing(trace)
    return Timeline(
        name=f"{policy.name}, modelled",
        basis=Basis.MODELLED,
        tracks=tracks(trace),
        length=int(end) // place + 1,
        marks=tuple(
            Mark(s.vcpu // shared, int(s.begin) // place, LOOK_OF_REQUEST[s.why], host=False)
            for s in served
        ),
        lines=tuple(_line(s, trace) for s in served),
        spans=tuple(
            _span(s.vcpu // shared, part, place, index)
            for index, s in enumerate(served)
            for part in s.stretches
        ),
        unit=place / 1e6,
        axis="modelled Mcycles",
    )


def _span(track: int, part: Stretch, place: int, line: int) -> Bar:
    first = int(part.begin) // place
    last = max(first, int(part.end) // place - 1)
    return Bar(track, first, last, "wait" if part.range is None else "zap", line=line)


def _line(served: Served, trace: Trace) -> str:
    parts = [_said(part) for part in served.stretches[:EVERY_STRETCH]]
    if len(served.stretches) > EVERY_STRETCH:
        parts.append(f"{len(served.stretches) - EVERY_STRETCH} more")
    why = served.why.value.replace("->", "→")
    return (
        f"{served.event}: {format_event(trace.events[served.event])} · {why} · modelled: "
        f"{with_unit(served.spent.total)}: {', '.join(parts) or 'nothing to zap'}"
    )


def _said(part: Stretch) -> str:
    took = with_unit(part.end - part.begin)
    if part.range is None:
        return f"waits for vCPU {part.waited_for}, {took}"
    return f"zaps {part.range}, {took}"


def shares(trace: Trace, result: Result) -> list[Share]:
    """Return what each vCPU's requests came to, also where it made none."""
    by_vcpu: dict[int, list[Served]] = {number: [] for number in range(trace.header.vcpus)}
    for served in result.served:
        by_vcpu[served.vcpu].append(served)
    spent = result.by_vcpu()
    return [
        Share(
            vcpu,
            len(found),
            sum(s.zaps for s in found),
            spent.get(vcpu, Spent()),
            max((s.spent.total for s in found), default=0.0),
        )
        for vcpu, found in by_vcpu.items()
    ]
