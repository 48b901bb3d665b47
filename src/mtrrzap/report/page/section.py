"""Everything that the page says of one trace, as rows."""

from collections.abc import Sequence
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.guest.importer import Cost
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.audit import Audit, audit
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.windows import windows
from mtrrzap.report import audit_rows as audits
from mtrrzap.report.page import modelled
from mtrrzap.report.page.maps import Maps, maps
from mtrrzap.report.page.modelled import Share
from mtrrzap.report.page.timeline import Timeline, events, requests
from mtrrzap.simulator import Guest, cost_model, simulate
from mtrrzap.study import compare

MAX_EVENTS = 50_000
"""Of one trace; a browser draws each as an element of its own."""


class StaleGroup(NamedTuple):
    """Policies with the same defects, and these in words."""

    policies: tuple[str, ...]
    rows: tuple[audits.StaleRow, ...]


class Section(NamedTuple):
    """One trace."""

    name: str
    trace: Trace
    policy: Policy
    """Whose requests are shown one by one."""
    events: Timeline
    requests: Timeline
    served: Timeline
    """Modelled: who zaps, who waits."""
    shares: tuple[Share, ...]
    """Modelled, too: what each vCPU's requests come to."""
    maps: Maps
    policies: tuple[compare.CompareRow, ...]
    verdicts: tuple[audits.AuditRow, ...]
    stale: tuple[StaleGroup, ...]
    costs: tuple[Cost, ...]
    """What MTRR writes took, measured; empty if nobody did."""


def section(
    name: str,
    trace: Trace,
    policies: Sequence[Policy],
    shown: Policy,
    host: Host,
    page_level: int = 1,
    costs: tuple[Cost, ...] = (),
) -> Section:
    """Replay and audit a trace.

    Raises:
        UserError: if the trace has more events than a browser could show.
    """
    if len(trace.events) > MAX_EVENTS:
        raise UserError(
            f"{len(trace.events):,} events are more than a page can show",
            place=name,
            mend=f"a page takes {MAX_EVENTS:,}; 'compare' and 'audit' take any number",
        )
    found = windows(trace)
    guest = Guest.of(trace, host, page_level, cost_model.costs())
    result = simulate(guest, shown, replay(trace, shown, host))
    audited = [(each, audit(trace, each, host)) for each in policies]
    return Section(
        name=name,
        trace=trace,
        policy=shown,
        events=events(trace, found, costs),
        requests=requests(trace, found, shown, host),
        served=modelled.timeline(trace, shown, result),
        shares=tuple(modelled.shares(trace, result)),
        maps=maps(trace, found),
        policies=tuple(compare.rows([(name, trace)], policies, host, page_level)),
        verdicts=tuple(audits.summary(*pair) for pair in audited),
        stale=tuple(_stale(audited, trace)),
        costs=costs,
    )


def _stale(audited: list[tuple[Policy, Audit]], trace: Trace) -> list[StaleGroup]:
    found = []
    for names, findings in audits.alike(audited):
        defects = [finding for finding in findings if finding.defect]
        if defects:
            found.append(StaleGroup(names, tuple(audits.stale(defects, trace))))
    return found
