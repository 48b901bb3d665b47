"""``compare``: what each policy zaps for each guest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, overload

from mtrrzap.api.printed import Printed, Sheet, as_text
from mtrrzap.api.traces import TraceSource, named, policies_of
from mtrrzap.errors import UserError
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host
from mtrrzap.study.compare import CompareRow, rows

PageSize = Literal["4K", "2M", "1G"]
_LEVELS = {"4K": 1, "2M": 2, "1G": 3}


def level_of(page_size: PageSize) -> int:
    """Return the level of a leaf of this size in the page table, from 1."""
    if page_size not in _LEVELS:
        raise UserError(f"invalid page size {page_size!r}", mend=f"use {', '.join(_LEVELS)}")
    return _LEVELS[page_size]


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
        UserError: if a trace, a policy or the page size is unknown.

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
    return Comparison(rows(named(traces), chosen, host or Host(), level, modelled=modelled))


COUNTED: dict[str, Callable[[CompareRow], object]] = {
    "trace": lambda row: row.trace,
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
MODELLED: dict[str, Callable[[CompareRow], object]] = {
    "trace": lambda row: row.trace,
    "vCPUs": lambda row: row.vcpus,
    "policy": lambda row: row.policy,
    "needed entries": lambda row: row.needed,
    "modelled Mcycles": lambda row: row.modelled_mcycles,
    "modelled longest wait": lambda row: row.modelled_longest_mcycles,
    "modelled later": lambda row: row.modelled_later_mcycles,
}
WORDS = frozenset(("trace", "policy", "stale types"))


class Comparison(Printed, Sequence[CompareRow]):
    """Rows of a comparison, one for each trace and policy. ``print`` shows the counted figures.

    A row has ``trace``, ``guest`` (the firmware), ``vcpus``, ``policy``; counted: ``requests``,
    ``published`` (the published count, or None), ``ranges``, ``frames`` (4-KiB frames asked for),
    ``entries`` (entries that the walks clear) and ``visits`` (entries they look at), both as if all
    memory were mapped before every walk; ``verdict`` (may a stale type survive?), ``needed`` (the
    least number of entries); modelled, in millions of cycles, or None: ``modelled_mcycles``,
    ``modelled_longest_mcycles``, ``modelled_later_mcycles``; ``incomplete`` (why the trace is not
    whole, or None).
    """

    def __init__(self, found: Iterable[CompareRow]) -> None:
        self._rows = tuple(found)

    @overload
    def __getitem__(self, index: int) -> CompareRow: ...
    @overload
    def __getitem__(self, index: slice) -> Comparison: ...
    def __getitem__(self, index: int | slice) -> CompareRow | Comparison:
        if isinstance(index, slice):
            return Comparison(self._rows[index])
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<Comparison: {len(self)} rows; print shows them>"

    def to_dict(self) -> list[dict[str, Any]]:
        """Return one dict a row: what ``mtrrzap compare --json`` prints."""
        return [row.data() for row in self]

    def modelled(self) -> str:
        """Return the table of modelled cycles as text."""
        return as_text([self._sheet(MODELLED)], self._incomplete())

    def _sheet(self, columns: dict[str, Callable[[CompareRow], object]]) -> Sheet:
        return Sheet(
            columns=tuple(columns),
            rows=[[cell(row) for cell in columns.values()] for row in self],
            numbers=frozenset(columns) - WORDS,
            droppable=("visits", "entries zapped", "frames asked for", "ranges"),
            group_by=2,
        )

    def _sheets(self) -> Iterable[Sheet]:
        return [self._sheet(COUNTED)]

    def _incomplete(self) -> Iterator[str]:
        for name, why in {row.trace: row.incomplete for row in self}.items():
            if why is not None:
                yield f"{name} is INCOMPLETE ({why}): the figures are of what was recorded."
        from mtrrzap.report import text

        for name in dict.fromkeys(row.trace for row in self if row.entries is None):
            yield f"{name}: {text.MEMORY_UNKNOWN}"

    def _remarks(self) -> Iterator[str]:
        yield from self._incomplete()
        yield "Entries zapped and visits assume that all memory is mapped before every walk."
