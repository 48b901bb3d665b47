"""``simulate``: what a policy costs in cycles, modelled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mtrrzap.api.printed import Printed, Sheet
from mtrrzap.api.traces import TraceSource, host_of, load, policy_of
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.tdp.levels import PageSize, level_of
from mtrrzap.simulator import Guest, Result, Served, cost_model
from mtrrzap.simulator import simulate as run
from mtrrzap.simulator.arrivals import PATTERNS


def simulate(
    trace: TraceSource,
    policy: str | Policy,
    *,
    host: Host | None = None,
    page_size: PageSize = "4K",
    pattern: int = 0,
) -> Simulation:
    """Model who zaps, who waits for whom, and how many cycles that takes.

    Args:
        trace: What ``load`` takes.
        policy: A policy's name, or a ``Policy``.
        host: The host and its user space; None: EPT, non-coherent DMA, 46 bits of MAXPHYADDR.
        page_size: Size of the pages by which the host backs the guest.
        pattern: Number of the pattern in which vCPUs arrive, from 0. ``compare`` gives the mean
            over several patterns.

    Raises:
        UserError: if the trace, the policy, the host or the page size is invalid.

    Example:
        >>> import mtrrzap
        >>> found = mtrrzap.simulate("ovmf-8", "ticket")
        >>> f"{found.cycles / 1e6:.0f} modelled Mcycles in {len(found.served)} requests"
        '106 modelled Mcycles in 74 requests'
    """
    opened, chosen, where = load(trace), policy_of(policy), host_of(host)
    guest = Guest.of(opened, where, level_of(page_size), cost_model.costs())
    result = run(guest, chosen, replay(opened, chosen, where), pattern)
    return Simulation(opened, chosen, result)


@dataclass(frozen=True, slots=True, repr=False)
class Simulation(Printed):
    """One policy simulated on one trace. All figures are modelled. ``print`` shows the timeline."""

    trace: Trace
    policy: Policy
    result: Result
    """The details, as ``phases`` and ``spent``, which divides the cycles by their purpose."""

    @property
    def cycles(self) -> float:
        """Modelled cycles that all vCPUs spend in requests, which is what was published."""
        return self.result.cycles

    @property
    def later(self) -> float:
        """Modelled cycles that the zaps cost outside of requests; not part of ``cycles``."""
        return self.result.later

    @property
    def longest(self) -> float:
        """Modelled cycles of the longest wait of one vCPU for others in one request."""
        return self.result.longest

    @property
    def served(self) -> tuple[Served, ...]:
        """The requests as they went, with ``event``, ``vcpu``, ``begin`` and ``end`` (cycles)."""
        return self.result.served

    @property
    def error_factor(self) -> float:
        """The factor within which ``cycles`` is accurate: the error on figures not fitted to."""
        return cost_model.error_factor()

    def __repr__(self) -> str:
        name = self.trace.name or "a trace"
        cycles = f"{self.cycles / 1e6:.3g} modelled Mcycles"
        return f"<Simulation of {self.policy.name} on {name}: {cycles}>"

    def to_dict(self) -> dict[str, Any]:
        """Return what ``mtrrzap explain --json`` prints; cycles are whole numbers."""
        from mtrrzap.report import explain

        timed = self.trace.header.memory_known
        return explain.as_data(self.result, self.trace.incomplete, timed=timed)

    def _sheets(self) -> Iterator[Sheet]:
        from mtrrzap.report import explain

        timed = self.trace.header.memory_known

        def sheet(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Sheet:
            numbers = frozenset(columns) - {"why", "waited for", "stage"}
            return Sheet(columns, [*rows], title, numbers, explain.DROPPABLE)

        yield sheet("", explain.COLUMNS, explain.lines(self.result, timed=timed))
        if timed:
            yield sheet("Phases", explain.PHASES, explain.phases(self.result))

    def _remarks(self) -> Iterator[str]:
        if not self.trace.header.memory_known:
            from mtrrzap.report import text

            yield f"{self.trace.name}: {text.MEMORY_UNKNOWN}"
            return
        if self.trace.incomplete is not None:
            yield f"INCOMPLETE ({self.trace.incomplete}): this is of what was recorded."
        yield (
            f"{self.policy.name}: modelled {self.cycles / 1e6:.3g} Mcycles in {len(self.served)} "
            f"requests, accurate to within a factor of {self.error_factor:.2f}; "
            f"{self.later / 1e6:.3g} Mcycles later, outside of requests. Times are millions of "
            f"modelled cycles. vCPUs come in one of {PATTERNS} patterns; "
            "'mtrrzap compare' models the mean over all."
        )
