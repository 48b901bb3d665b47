"""The audit as rows: one per policy, and one per stale range, policies with equal ones together."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mtrrzap.gfn import Range
from mtrrzap.guest.trace import Header, Trace, format_event
from mtrrzap.kvm.audit import Audit, Finding
from mtrrzap.kvm.policy import Policy
from mtrrzap.x86.ept import EptType


class AuditRow(NamedTuple):
    """One policy on one trace. Frames are those inside memslots; all figures are counted."""

    policy: str
    verdict: str
    defects: int
    """Stale ranges that outlive the update windows."""
    window_only: int
    """Stale ranges that do not."""
    disagreements: int
    """Ranges on which the vCPUs differ after all have left their windows."""
    requests: int
    needless: int
    """Requests by which no entry's type had become stale."""
    asked: int | None
    """Frames of all requests; None: the guest's memory is unknown."""
    needed: int | None
    """Of those, frames with an entry whose type may have been stale."""


class StaleRow(NamedTuple):
    """Findings of one type at the same events, in words; events with their positions."""

    gfns: str
    stale: str
    right: str
    times: int
    """Intervals in which it is so; ``since`` is of the first of them, ``until`` of the last."""
    since: str
    quiet: str
    """The first event after which no vCPU is in an update window."""
    until: str


def summary(policy: Policy, found: Audit, header: Header) -> AuditRow:
    """Return a policy's row on the trace with this header."""
    known = header.memory_known
    return AuditRow(
        policy=policy.name,
        verdict=str(found.verdict),
        defects=len(found.defects),
        window_only=len(found.findings) - len(found.defects),
        disagreements=len(found.disagreements),
        requests=len(found.needs),
        needless=sum(not need.needed for need in found.needs),
        asked=sum(need.asked for need in found.needs) if known else None,
        needed=sum(need.needed for need in found.needs) if known else None,
    )


def alike(
    audits: Iterable[tuple[Policy, Audit]],
) -> list[tuple[tuple[str, ...], tuple[Finding, ...]]]:
    """Return the policies' names by equal findings, in the order given."""
    groups: dict[tuple[Finding, ...], list[str]] = {}
    for policy, found in audits:
        groups.setdefault(found.findings, []).append(policy.name)
    return [(tuple(names), findings) for findings, names in groups.items()]


def stale(findings: Iterable[Finding], trace: Trace) -> list[StaleRow]:
    """Return rows for findings: one for all ranges that share types and events."""
    per_range: dict[tuple[Range, EptType, tuple[EptType, ...]], list[Finding]] = {}
    for finding in findings:
        per_range.setdefault(finding[:3], []).append(finding)
    rows: dict[tuple[object, ...], list[tuple[Range, list[Finding]]]] = {}
    for (where, *types), found in per_range.items():
        rows.setdefault((*types, tuple(f[3:] for f in found)), []).append((where, found))
    return [_row([where for where, _ in row], row[0][1], trace) for row in rows.values()]


def _row(where: list[Range], found: list[Finding], trace: Trace) -> StaleRow:
    first, last = found[0], found[-1]
    quiet = next((f.quiet[0][0] for f in found if f.quiet), None)
    until = "the end"
    if last.end is not None:
        until = f"{event(last.end, trace)} ({'zap' if last.zapped else 'right again'})"
    return StaleRow(
        gfns="\n".join(map(str, where)),
        stale=str(first.type),
        right=" or ".join(map(str, first.now)) or "none",
        times=len(found),
        since=event(first.begin, trace),
        quiet="-" if quiet is None else f"event {quiet}",
        until=until,
    )


def event(position: int, trace: Trace) -> str:
    """Return ``17: 0 wrmsr 0x2ff 0xc06``."""
    return f"{position}: {format_event(trace.events[position]._replace(time_ns=None))}"


def as_dict(policy: Policy, found: Audit, trace: Trace) -> dict[str, object]:
    """Return everything that was found as JSON has it."""
    unknown = {} if trace.header.memory_known else {"asked": None, "needed": None}
    return summary(policy, found, trace.header)._asdict() | {
        "incomplete": trace.incomplete,
        "word": found.verdict.word,
        "findings": [_finding(finding) for finding in found.findings],
        "disagreeing": [
            d._asdict() | {"range": list(d.range), "types": _types(d.types)}
            for d in found.disagreements
        ],
        "needs": [need._asdict() | unknown for need in found.needs],
    }


def _finding(finding: Finding) -> dict[str, object]:
    return finding._asdict() | {
        "range": list(finding.range),
        "type": str(finding.type),
        "now": _types(finding.now),
        "defect": finding.defect,
        "quiet": [list(interval) for interval in finding.quiet],
    }


def _types(types: Sequence[object]) -> list[str]:
    return [str(kind) for kind in types]
