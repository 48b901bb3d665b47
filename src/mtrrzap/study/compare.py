"""The main table: guest x vCPUs x policy, with what is asked for, what it takes, a verdict.

Counted figures come first, modelled ones last; the latter have it in their names.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.audit import audit
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay, total
from mtrrzap.kvm.tdp import FullTable
from mtrrzap.kvm.tdp.levels import frames as level_frames
from mtrrzap.simulator import Guest, cost_model, expected, published
from mtrrzap.study.units import millions


class CompareRow(NamedTuple):
    """One cell of the comparison. A figure is counted unless its name says ``modelled``."""

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
    needed: int
    """Lower bound of entries: each of which the type really changed zapped once, and no other."""
    modelled_mcycles: float | None
    """Millions of cycles that all vCPUs spend in requests, as published figures count; None: not
    asked for, as with all modelled figures."""
    modelled_longest_mcycles: float | None
    """The longest that one request waits for other vCPUs."""
    modelled_later_mcycles: float | None
    """What the zaps cost running vCPUs outside of requests: faults, retries, recomputing exits."""
    modelled_error_factor: float
    """The geometric error of ``modelled_mcycles`` on published cells that no fit has seen."""
    host_writes: str
    """Where user space's MTRR writes in the trace come from: they may be modelled."""
    incomplete: str | None
    """Why the trace is not whole; then every figure is of what was recorded."""


def rows(
    traces: Iterable[tuple[str, Trace]],
    policies: Sequence[Policy],
    host: Host,
    page_level: int = 1,
    *,
    modelled: bool = True,
) -> Iterator[CompareRow]:
    """Replay every named trace under every policy; ``page_level``: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB."""
    for name, trace in traces:
        header = trace.header
        table = FullTable(header, host, page_level)
        known = published.requests(header) if _as_published(trace, host) else {}
        guest = Guest.of(trace, host, page_level, cost_model.costs())
        for policy in policies:
            requests = list(replay(trace, policy, host))
            sums = total(requests)
            walks = table.cost(requests, policy.walk)
            found = audit(trace, policy, host)
            cost = expected(guest, policy, requests) if modelled else None
            yield CompareRow(
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
                verdict=str(found.verdict),
                needed=-(-sum(need.needed for need in found.needs) // level_frames(page_level)),
                modelled_mcycles=cost and millions(cost.cycles),
                modelled_longest_mcycles=cost and millions(cost.longest),
                modelled_later_mcycles=cost and millions(cost.later),
                modelled_error_factor=cost_model.error_factor(),
                host_writes=header.host_writes,
                incomplete=trace.incomplete,
            )


def _as_published(trace: Trace, host: Host) -> bool:
    """Tell if a trace on this host is what was measured: a whole boot of Linux, default quirks."""
    usual = host.quirk_cd_nw_cleared and host.ept and host.noncoherent_dma
    return usual and trace.incomplete is None and trace.header.guest_kernel.startswith("Linux")
