"""``audit``: may a stale memory type survive a policy?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mtrrzap.api.printed import Printed, Sheet
from mtrrzap.api.traces import TraceSource, load, policy_of
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm import audit as core
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host


def audit(trace: TraceSource, policy: str | Policy, *, host: Host | None = None) -> AuditResult:
    """Look for page-table entries that may outlive their memory type.

    Args:
        trace: What ``load`` takes.
        policy: A policy's name, or a ``Policy``.
        host: The host and its user space; ``Host(largest_page=1)`` backs the guest with 4-KiB
            pages only. None: EPT, non-coherent DMA, 1-GiB pages.

    Raises:
        UserError: if the trace or the policy is unknown.

    Example:
        >>> import mtrrzap
        >>> found = mtrrzap.audit("ovmf-8", "Base2")
        >>> print(found.verdict)
        right
        >>> mtrrzap.audit("ovmf-8", "v6.1").verdict
        AuditVerdict(word='stale', parts=2, event=750)
    """
    opened, chosen = load(trace), policy_of(policy)
    return AuditResult(opened, chosen, core.audit(opened, chosen, host))


@dataclass(frozen=True, slots=True, repr=False)
class AuditResult(Printed):
    """One policy audited on one trace. ``print`` shows the stale ranges."""

    trace: Trace
    policy: Policy
    found: core.Audit
    """The ``findings``, the ``disagreements`` of the vCPUs and the ``needs`` of the requests."""

    @property
    def verdict(self) -> core.AuditVerdict:
        """The audit in a word.

        Its ``word`` is ``right``, ``window only`` (something is stale, but only while some vCPU is
        in its update window) or ``stale`` (something still is after every vCPU has left it).
        ``parts`` counts the stale ranges; ``event`` is the first event that made one stale, or
        None.
        """
        return self.found.verdict

    @property
    def defects(self) -> tuple[core.Finding, ...]:
        """The findings that outlive the update windows, with their ``range`` in gfns."""
        return self.found.defects

    def __repr__(self) -> str:
        return f"<AuditResult {self.policy.name} on {self.trace.name or 'a trace'}: {self.verdict}>"

    def to_dict(self) -> dict[str, Any]:
        """Return what ``mtrrzap audit --json`` prints for this policy."""
        from mtrrzap.report import audit_rows as report

        return report.as_dict(self.policy, self.found, self.trace)

    def _sheets(self) -> Iterable[Sheet]:
        from mtrrzap.report import audit_rows as report

        columns = tuple(name.replace("_", " ") for name in report.AuditRow._fields)
        row = report.summary(self.policy, self.found, self.trace.header)
        yield Sheet(columns, [row], numbers=frozenset(columns[2:]))
        if self.defects:
            columns = ("gfns", "stale type", "right is", "times")
            columns += ("first since event", "first outside all windows", "last until event")
            found = report.stale(self.defects, self.trace)
            rows = [row._replace(gfns=row.gfns.replace("\n", " ")) for row in found]
            yield Sheet(columns, rows, "Stale outside of all windows", frozenset(("times",)))

    def _remarks(self) -> Iterator[str]:
        if self.trace.incomplete is not None:
            yield f"The trace is INCOMPLETE: {self.trace.incomplete}"
