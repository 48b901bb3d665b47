"""``audit``: may a stale memory type survive a policy?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mtrrzap.api.printed import Printed, Sheet
from mtrrzap.api.traces import TraceSource, host_of, load, policy_of
from mtrrzap.errors import docs_page
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
        UserError: if the trace, the policy or the host is invalid.

    Example:
        >>> import mtrrzap
        >>> found = mtrrzap.audit("ovmf-8", "Base2")
        >>> print(found.verdict)
        right
        >>> mtrrzap.audit("ovmf-8", "v6.1").verdict
        AuditVerdict(word='stale', parts=2, event=750)
    """
    opened, chosen = load(trace), policy_of(policy)
    return AuditResult(opened, chosen, core.audit(opened, chosen, host_of(host)))


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

    def _sheets(self) -> Iterator[Sheet]:
        return AuditResults([self])._sheets()

    def _remarks(self) -> Iterator[str]:
        return AuditResults([self])._remarks()


SHOWN = 40
"""Rows printed for one group of policies; JSON has all."""
DROPPABLE = ("needless", "disagreements", "window only", "needed", "asked", "requests")
_STALE = (
    *("gfns", "stale type", "right is", "times", "first since event"),
    *("first outside all windows", "last until event"),
)


class AuditResults(Printed):
    """Several policies on one trace; ``windows``: also what is stale in update windows only."""

    def __init__(self, found: Sequence[AuditResult], *, windows: bool = False) -> None:
        self._found, self._windows = found, windows

    def _sheets(self) -> Iterator[Sheet]:
        from mtrrzap.report import audit_rows as report

        trace = self._found[0].trace
        columns = tuple(name.replace("_", " ") for name in report.AuditRow._fields)
        yield Sheet(
            columns,
            [report.summary(each.policy, each.found, trace.header) for each in self._found],
            f"Verdicts ({docs_page('audit')}); asked and needed are frames inside memslots",
            numbers=frozenset(columns[2:]),
            droppable=DROPPABLE,
        )
        for names, findings in report.alike((each.policy, each.found) for each in self._found):
            rows = report.stale((f for f in findings if f.defect or self._windows), trace)
            of = f": the first {SHOWN} of {len(rows):,} rows" if len(rows) > SHOWN else ""
            if rows:
                yield Sheet(
                    _STALE,
                    rows[:SHOWN],
                    f"Stale under {', '.join(names)}{of}",
                    numbers=frozenset(("times",)),
                    droppable=("right is", "times", "first outside all windows"),
                )

    def _remarks(self) -> Iterator[str]:
        trace = self._found[0].trace
        if not trace.header.memory_known:
            from mtrrzap.report import text

            yield f"{trace.name}: {text.MEMORY_UNKNOWN}"
        if trace.incomplete is not None:
            yield f"The trace is INCOMPLETE: {trace.incomplete}"
