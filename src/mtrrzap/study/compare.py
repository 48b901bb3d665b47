"""The main table: guest x vCPUs x policy, with what is asked for, what it takes, a verdict.

Counted figures come first, modelled ones last; the latter have it in their names.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.audit import Audit, audit
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay, total
from mtrrzap.kvm.tdp import FullTable
from mtrrzap.kvm.tdp.levels import frames as level_frames
from mtrrzap.simulator import Guest, cost_model, expected, published
from mtrrzap.study.kernel_zaps import agreement
from mtrrzap.study.units import millions


class CompareRow(NamedTuple):
    """One cell of the comparison. A figure is counted unless its name says ``modelled``."""

    trace: str
    guest: str
    """The firmware."""
    vcpus: int
    policy: str
    requests: int
    published: int | None
    """The published count of requests for this guest, number of vCPUs and row."""
    ranges: int | None
    frames: int | None
    """Frames asked for, after clamping; one asked for twice counts twice."""
    entries: int | None
    """Entries that the walks clear, and ... None, as with all that follows: it depends on the
    guest's memory, which the trace does not tell."""
    visits: int | None
    """... entries they look at, if memory is fully mapped before each (``kvm.tdp.cost``)."""
    verdict: str
    """May a stale type survive? See ``kvm.audit``."""
    needed: int | None
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
    kernel_zaps: int | None = None
    """Calls of kvm_zap_gfn_range that kprobes saw; None: there were no kprobes."""
    kernel_difference: str | None = None
    """The first difference between these calls and the policy's requests."""

    def data(self) -> dict[str, Any]:
        """Return the row by column; what the kernel zapped only where it was recorded."""
        found = self._asdict()
        if self.kernel_zaps is None:
            del found["kernel_zaps"], found["kernel_difference"]
        return found


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
            asked, ranges, frames = total(requests)
            walks = table.cost(requests, policy.walk)
            found = audit(trace, policy, host)
            sized = header.memory_known
            split = sized or not policy.by_memslot
            cost = expected(guest, policy, requests) if modelled and sized else None
            kernel = agreement(trace, policy, host)
            yield CompareRow(
                *(name, header.family, header.vcpus, policy.name, asked, known.get(policy.name)),
                ranges=ranges if split else None,
                frames=frames if split else None,
                entries=walks.entries if sized else None,
                visits=walks.visits if sized else None,
                verdict=str(found.verdict),
                needed=_needed(found, page_level) if sized else None,
                modelled_mcycles=cost and millions(cost.cycles),
                modelled_longest_mcycles=cost and millions(cost.longest),
                modelled_later_mcycles=cost and millions(cost.later),
                modelled_error_factor=cost_model.error_factor(),
                host_writes=header.host_writes,
                incomplete=trace.incomplete,
                kernel_zaps=kernel and kernel.calls,
                kernel_difference=kernel and kernel.difference,
            )


def _needed(found: Audit, page_level: int) -> int:
    return -(-sum(need.needed for need in found.needs) // level_frames(page_level))


def _as_published(trace: Trace, host: Host) -> bool:
    """Tell if a trace on this host is what was measured: a whole boot of Linux, default quirks."""
    usual = host.quirk_cd_nw_cleared and host.ept and host.noncoherent_dma
    return usual and trace.incomplete is None and trace.header.guest_kernel.startswith("Linux")
