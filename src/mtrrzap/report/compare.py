"""The main table: guest x vCPUs x policy, with requests, ranges and frames asked for."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay, total
from mtrrzap.report import published


class Row(NamedTuple):
    """One cell of the comparison. All figures are counted, none is modelled."""

    trace: str
    guest: str
    vcpus: int
    policy: str
    requests: int
    published: int | None
    """The published count of requests for this guest, number of vCPUs and row."""
    ranges: int
    frames: int
    """Frames asked for, after clamping; one asked for twice counts twice."""
    incomplete: str | None
    """Why the trace is not whole; then every figure of it is a lower bound."""


def rows(
    traces: Iterable[tuple[str, Trace]], policies: Sequence[Policy], host: Host
) -> Iterator[Row]:
    """Replay every named trace under every policy."""
    for name, trace in traces:
        header = trace.header
        for policy in policies:
            sums = total(replay(trace, policy, host))
            yield Row(
                trace=name,
                guest=header.family,
                vcpus=header.vcpus,
                policy=policy.name,
                requests=sums.requests,
                published=published.requests(header.family, header.vcpus, policy.name),
                ranges=sums.ranges,
                frames=sums.frames,
                incomplete=trace.incomplete,
            )
