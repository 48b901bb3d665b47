"""The main table: guest x vCPUs x policy, with what is asked for, what it takes, a verdict."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.audit import verdict
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay, total
from mtrrzap.kvm.tdp import FullTable
from mtrrzap.report import published


class Row(NamedTuple):
    """One cell of the comparison. All figures are counted from the trace."""

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
    entries: int
    """Entries that the walks clear, and ..."""
    visits: int
    """... entries they look at, if memory is fully mapped before each (``kvm.tdp.cost``)."""
    verdict: str
    """May a stale type survive? See ``kvm.audit``."""
    host_writes: str
    """Where user space's MTRR writes in the trace come from: they may be modelled."""
    incomplete: str | None
    """Why the trace is not whole; then every figure is of what was recorded."""


def rows(
    traces: Iterable[tuple[str, Trace]],
    policies: Sequence[Policy],
    host: Host,
    page_level: int = 1,
) -> Iterator[Row]:
    """Replay every named trace under every policy; ``page_level``: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB."""
    for name, trace in traces:
        header = trace.header
        table = FullTable(header, host, page_level)
        known = published.requests(header) if _as_published(trace, host) else {}
        for policy in policies:
            requests = list(replay(trace, policy, host))
            sums = total(requests)
            walks = table.cost(requests, policy.walk)
            yield Row(
                trace=name,
                guest=header.family,
                vcpus=header.vcpus,
                policy=policy.name,
                requests=sums.requests,
                published=known.get(policy.name),
                ranges=sums.ranges,
                frames=sums.frames,
                entries=walks.entries,
                visits=walks.visits,
                verdict=str(verdict(trace, policy, host)),
                host_writes=header.host_writes,
                incomplete=trace.incomplete,
            )


def _as_published(trace: Trace, host: Host) -> bool:
    """Tell if a trace on this host is what was measured: a whole boot of Linux, default quirks."""
    usual = host.quirk_cd_nw_cleared and host.ept and host.noncoherent_dma
    return usual and trace.incomplete is None and trace.header.guest_kernel.startswith("Linux")
