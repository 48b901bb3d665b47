"""Everything that the page says of one trace, as rows."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.guest.measured_costs import Cost
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.audit import Audit, audit
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.vcpu import power_on
from mtrrzap.kvm.windows import Window, states, windows
from mtrrzap.report import audit_rows as audits
from mtrrzap.report.page import modelled
from mtrrzap.report.page.modelled import Share
from mtrrzap.report.page.timeline import Timeline, events, requests
from mtrrzap.simulator import Guest, Result, cost_model, simulate
from mtrrzap.study import compare
from mtrrzap.study.both_maps import MapRow, table
from mtrrzap.study.kernel_zaps import Agreement, agreement
from mtrrzap.x86.mtrr import Mtrrs

MAX_EVENTS = 50_000
"""Of one trace; a browser draws each as an element of its own."""
MAX_MODELLED = 256
"""vCPUs of a guest that a page models: for n, it takes time that grows as n squared."""
MAX_MAPS = 40
"""Distinct maps that a page shows in full; a guest has a handful, a fuzzer any number."""


class NumberedMap(NamedTuple):
    """One memory map by the manual and by KVM; CR0.CD is not looked at."""

    number: int
    rows: tuple[MapRow, ...]
    whole: bool
    """False if there are more rows than shown."""
    enabled: bool


class Change(NamedTuple):
    """A window with the numbers of its vCPU's maps; None: the map is not shown."""

    window: Window
    before: int | None
    after: int | None


class Maps(NamedTuple):
    """All windows, and the distinct maps that they lead from and to."""

    changes: tuple[Change, ...]
    maps: tuple[NumberedMap, ...]
    hidden: int
    """Register states that came after ``MAX_MAPS`` maps; theirs are not shown."""


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
    served: Timeline | None
    """Modelled: who zaps, who waits; None: too many vCPUs to model any of it."""
    shares: tuple[Share, ...]
    """Modelled, too: what each vCPU's requests come to."""
    maps: Maps
    policies: tuple[compare.CompareRow, ...]
    verdicts: tuple[audits.AuditRow, ...]
    stale: tuple[StaleGroup, ...]
    costs: tuple[Cost, ...]
    """What MTRR writes took; empty if not measured."""
    kernel: Agreement | None
    """How the shown policy's requests compare with what the kernel zapped."""


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
    modelling = trace.header.vcpus <= MAX_MODELLED
    result = simulate(guest, shown, replay(trace, shown, host)) if modelling else None
    known = trace.header.memory_known
    audited = [(each, audit(trace, each, host)) for each in policies]
    return Section(
        name=name,
        trace=trace,
        policy=shown,
        events=events(trace, found, costs),
        requests=requests(trace, found, shown, host),
        served=result and modelled.timeline(trace, shown, result if known else Result((), ())),
        shares=tuple(modelled.shares(trace, result)) if result and known else (),
        maps=maps(trace, found),
        policies=tuple(
            compare.rows([(name, trace)], policies, host, page_level, modelled=modelling)
        ),
        verdicts=tuple(audits.summary(*pair, trace.header) for pair in audited),
        stale=tuple(_stale(audited, trace)),
        costs=costs,
        kernel=agreement(trace, shown, host),
    )


def _stale(audited: list[tuple[Policy, Audit]], trace: Trace) -> list[StaleGroup]:
    found = []
    for names, findings in audits.alike(audited):
        defects = [finding for finding in findings if finding.defect]
        if defects:
            found.append(StaleGroup(names, tuple(audits.stale(defects, trace))))
    return found


def maps(trace: Trace, windows: list[Window]) -> Maps:
    """Follow every vCPU's registers through its windows."""
    firsts = {window.first for window in windows}
    lasts = {window.last for window in windows}
    now = [power_on(trace.header.maxphyaddr).mtrrs] * trace.header.vcpus
    before, after = {}, {}
    for position, event, was, became in states(trace):
        now[event.vcpu] = became.mtrrs
        if position in firsts:
            before[position] = was.mtrrs
        if position in lasts:
            after[position] = became.mtrrs
    pairs = [(before[w.first], now[w.vcpu] if w.last is None else after[w.last]) for w in windows]
    numbers, shown, hidden = _numbered(state for pair in pairs for state in pair)
    return Maps(
        changes=tuple(
            Change(window, numbers.get(pair[0]), numbers.get(pair[1]))
            for window, pair in zip(windows, pairs, strict=True)
        ),
        maps=tuple(shown),
        hidden=hidden,
    )


def _numbered(states_: Iterable[Mtrrs]) -> tuple[dict[Mtrrs, int], list[NumberedMap], int]:
    """Return the number of the map of each register state, the maps, and the states left out."""
    known: dict[tuple[MapRow, ...], int] = {}
    numbers: dict[Mtrrs, int] = {}
    shown: list[NumberedMap] = []
    distinct = dict.fromkeys(states_)
    for mtrrs in distinct:
        if len(shown) == MAX_MAPS:
            break  # a map may cost thousands of lookups
        found, whole = table(mtrrs)
        rows = tuple(found)
        numbers[mtrrs] = known.setdefault(rows, len(known) + 1)
        if numbers[mtrrs] > len(shown):
            shown.append(NumberedMap(numbers[mtrrs], rows, whole, mtrrs.enabled))
    return numbers, shown, len(distinct) - len(numbers)
