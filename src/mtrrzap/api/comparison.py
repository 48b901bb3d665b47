"""``compare``: what each policy zaps for each guest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

from mtrrzap.api.printed import Printed, Sheet
from mtrrzap.api.traces import TraceSource, host_of, named, policies_of
from mtrrzap.errors import counted, docs_page
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.tdp.levels import PageSize, level_of
from mtrrzap.simulator import cost_model
from mtrrzap.study.compare import CompareRow, rows


def compare(
    traces: TraceSource | Iterable[TraceSource] | None = None,
    policies: str | Policy | Iterable[str | Policy] | None = None,
    *,
    host: Host | None = None,
    page_size: PageSize = "4K",
    modelled: bool = True,
) -> Comparison:
    """Count what every policy zaps for every guest, and say whether a stale type may survive it.

    Args:
        traces: What ``load`` takes, one or several; None: the four shipped recordings.
        policies: Names or ``Policy`` objects, one or several; None: all.
        host: The host and its user space; None: EPT, non-coherent DMA, 46 bits of MAXPHYADDR.
        page_size: Size of the pages that map the guest's memory before each walk.
        modelled: Also compute the modelled cycles, which takes most of the time.

    Returns:
        One row for each trace and policy, policies varying faster.

    Raises:
        UserError: if a trace, a policy, the host or the page size is invalid.

    Example:
        >>> import mtrrzap
        >>> rows = mtrrzap.compare(["ovmf-8"], ["v6.1", "ticket"])
        >>> [(row.policy, row.requests, row.ranges, row.verdict) for row in rows]
        [('v6.1', 84, 84, 'stale (2 parts, event 750)'), ('ticket', 74, 154, 'right')]
        >>> rows.to_dict()[1]["requests"]
        74
    """
    chosen = policies_of(policies)
    level = level_of(page_size)
    found = rows(named(traces), chosen, host_of(host), level, modelled=modelled)
    return Comparison(found, page_size)


Columns = dict[str, Callable[[CompareRow], object]]
COUNTED: Columns = {
    "guest": lambda row: row.guest,
    "vCPUs": lambda row: row.vcpus,
    "policy": lambda row: row.policy,
    "requests": lambda row: row.requests,
    "published": lambda row: row.published,
    "ranges": lambda row: row.ranges,
    "frames asked for": lambda row: row.frames,
    "entries zapped": lambda row: row.entries,
    "visits": lambda row: row.visits,
    "stale types": lambda row: row.verdict,
}
KERNEL = "the kernel's zaps"
MODELLED: Columns = {
    "guest": lambda row: row.guest,
    "vCPUs": lambda row: row.vcpus,
    "policy": lambda row: row.policy,
    "needed entries": lambda row: row.needed,
    "modelled Mcycles": lambda row: row.modelled_mcycles,
    "modelled longest wait": lambda row: row.modelled_longest_mcycles,
    "modelled later": lambda row: row.modelled_later_mcycles,
}
"""A table of its own: modelled figures do not stand beside counted ones."""
WORDS = frozenset(("guest", "trace", "policy", "stale types", KERNEL))
DROPPABLE = (
    *("visits", "entries zapped", "frames asked for", "ranges", "published"),
    *("needed entries", "modelled later", "modelled longest wait"),
)


class Comparison(Printed, Sequence[CompareRow]):
    """A ``CompareRow`` for each trace and policy. ``print`` shows the counted figures."""

    def __init__(
        self, found: Iterable[CompareRow], page_size: PageSize = "4K", *, modelled: bool = False
    ) -> None:
        self._rows = tuple(found)
        self._page_size, self._modelled = page_size, modelled

    @overload
    def __getitem__(self, index: int) -> CompareRow: ...
    @overload
    def __getitem__(self, index: slice) -> Comparison: ...
    def __getitem__(self, index: int | slice) -> CompareRow | Comparison:
        if isinstance(index, slice):
            return Comparison(self._rows[index], self._page_size, modelled=self._modelled)
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<Comparison: {counted(len(self), 'row')}; print shows them>"

    def to_dict(self) -> list[dict[str, Any]]:
        """Return one dict a row: what ``mtrrzap compare --json`` prints."""
        return [row.data() for row in self]

    def modelled(self) -> Comparison:
        """Return the same rows as a comparison that prints the modelled cycles.

        They are unknown (-) if ``compare`` was called with ``modelled=False``.
        """
        return Comparison(self._rows, self._page_size, modelled=True)

    def _sheets(self) -> Iterator[Sheet]:
        columns = MODELLED if self._modelled else COUNTED
        if len({(row.guest, row.vcpus) for row in self}) < len({row.trace for row in self}):
            # The guests are not enough to tell the traces apart.
            told: Columns = {"trace": lambda row: row.trace}
            columns = told | {name: columns[name] for name in columns if name != "guest"}
        if not self._modelled and any(row.kernel_zaps is not None for row in self):
            columns = columns | {KERNEL: kernel_cell}
        yield Sheet(
            columns=tuple(columns),
            rows=[[cell(row) for cell in columns.values()] for row in self],
            numbers=frozenset(columns) - WORDS,
            droppable=DROPPABLE,
            group_by=2,
        )

    def _remarks(self) -> Iterator[str]:
        for name, why in {row.trace: row.incomplete for row in self}.items():
            if why is not None:
                yield f"{name}: INCOMPLETE ({why}): figures are of what was recorded."
        from mtrrzap.report import text

        for name in dict.fromkeys(row.trace for row in self if row.entries is None):
            yield f"{name}: {text.MEMORY_UNKNOWN}"
        if self._modelled:
            yield (
                "Modelled figures are millions of cycles, accurate to within a factor of "
                f"{cost_model.error_factor():.2f} ({docs_page('validation')}). Needed entries are "
                "counted: those whose type changed, each once."
            )
        else:
            yield from self._remarks_on_counts()

    def _remarks_on_counts(self) -> Iterator[str]:
        for row in self:
            if row.kernel_difference is not None:
                yield f"{row.trace}, {row.policy}, first difference: {row.kernel_difference}."
        compared = [row for row in self if row.published is not None]
        if compared:
            equal = sum(row.requests == row.published for row in compared)
            yield (
                f"{equal} of {len(compared)} published request counts come out equal. "
                "Requests, ranges and frames are counted from the trace."
            )
        if any(row.host_writes.startswith("modelled") for row in self):
            yield (
                "A recording cannot see what QEMU writes to MTRRs at power-on: the recorder adds "
                "these writes, modelled (see 'mtrrzap show')."
            )
        yield (
            f"Entries and visits assume that all memory is mapped with {self._page_size} pages "
            "before every walk, where memslots allow it, on one root, uncontended. "
            "Stale types: see 'mtrrzap audit'."
        )


def kernel_cell(row: CompareRow) -> str | None:
    """Return what the kernel zapped, beside the policy's requests."""
    if row.kernel_zaps is None:
        return None
    return f"{row.kernel_zaps}, {'equal' if row.kernel_difference is None else 'different'}"
