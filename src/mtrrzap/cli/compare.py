"""``mtrrzap compare``: what each policy would zap, for each guest."""

import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from mtrrzap.cli.options import (
    FormatOptions,
    GuestOptions,
    HostOptions,
    PageSize,
    PolicyOption,
    TracesArgument,
    policies,
    with_options,
)
from mtrrzap.cli.progress import working
from mtrrzap.errors import docs_page
from mtrrzap.guest import open as traces
from mtrrzap.report import text
from mtrrzap.simulator import cost_model
from mtrrzap.study.compare import CompareRow, rows


@with_options
def compare(
    files: TracesArgument = None,
    policy: PolicyOption = None,
    *,
    host: HostOptions,
    page_size: Annotated[
        PageSize, typer.Option(help="Page size of the fully populated table that zaps walk.")
    ] = PageSize.SMALL,
    guest: GuestOptions,
    modelled: Annotated[
        bool, typer.Option("--modelled", help="Print modelled cycles instead of counts.")
    ] = False,
    form: FormatOptions,
) -> None:
    """Count what every policy zaps for every guest, and say whether a stale type may survive."""
    chosen = policies(policy)
    wanted = modelled or form.json or form.csv
    found: list[CompareRow] = []
    with working("reading traces") as now:
        named = [(name, guest.rescaled(each)) for name, each in traces.load_all(files or [])]
        now("replaying the first policy")
        for row in rows(named, chosen, host.host(), page_size.level, modelled=wanted):
            found.append(row)
            now(f"{len(found)} of {len(named) * len(chosen)} rows")
    if form.json:
        sys.stdout.write(text.as_json([row.data() for row in found]))
    elif form.csv:
        measured = any(row.kernel_zaps is not None for row in found)
        fields = CompareRow._fields if measured else CompareRow._fields[:-2]
        sys.stdout.write(text.as_csv([row[: len(fields)] for row in found], fields))
    else:
        _print(found, page_size, modelled=modelled)


COUNTED: dict[str, Callable[[CompareRow], object]] = {
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
MODELLED: dict[str, Callable[[CompareRow], object]] = {
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
"""Columns left out, in this order, where the terminal is too narrow for all."""


def _print(found: list[CompareRow], page_size: PageSize, *, modelled: bool) -> None:
    columns = dict(MODELLED if modelled else COUNTED)
    if len({(row.guest, row.vcpus) for row in found}) < len({row.trace for row in found}):
        # By path, if the guests are not enough to tell the traces apart.
        columns.pop("guest")
        columns = {"trace": lambda row: row.trace, **columns}
    if not modelled and any(row.kernel_zaps is not None for row in found):
        columns[KERNEL] = kernel_cell
    cells = [tuple(cell(row) for cell in columns.values()) for row in found]
    console = text.console()
    numbers = frozenset(columns) - WORDS
    text.print_table(
        console, list(columns), cells, numbers=numbers, droppable=DROPPABLE, group_by=2
    )
    for line in _remarks(found, page_size, modelled=modelled):
        text.say(console, line)


def kernel_cell(row: CompareRow) -> str | None:
    """Return what the kernel zapped, beside the policy's requests."""
    if row.kernel_zaps is None:
        return None
    return f"{row.kernel_zaps}, {'equal' if row.kernel_difference is None else 'different'}"


def differences(found: list[CompareRow]) -> Iterator[str]:
    """Yield the first difference of each policy from what the kernel zapped."""
    for row in found:
        if row.kernel_difference is not None:
            yield f"{row.trace}, {row.policy}, first difference: {row.kernel_difference}."


def _remarks(found: list[CompareRow], page_size: PageSize, *, modelled: bool) -> Iterator[str]:
    for name, why in {row.trace: row.incomplete for row in found}.items():
        if why is not None:
            yield f"{name}: INCOMPLETE ({why}): figures are of what was recorded."
    for name in dict.fromkeys(row.trace for row in found if row.entries is None):
        yield f"{name}: {text.MEMORY_UNKNOWN}"
    if not modelled:
        yield from differences(found)
    if modelled:
        yield (
            "Modelled figures are millions of cycles, wrong by a factor of "
            f"{cost_model.error_factor():.2f} (geometric error on cells that no fit has seen: "
            f"{docs_page('validation')}). Needed entries are counted: "
            "those whose type changed, each once."
        )
        return
    compared = [row for row in found if row.published is not None]
    if compared:
        equal = sum(row.requests == row.published for row in compared)
        yield (
            f"{equal} of {len(compared)} published request counts come out equal. "
            "Requests, ranges and frames are counted from the trace."
        )
    if any(row.host_writes.startswith("modelled") for row in found):
        yield (
            "A recording cannot see what QEMU writes to MTRRs at power-on: the recorder adds these "
            "writes, modelled (see 'mtrrzap show')."
        )
    yield (
        f"Entries and visits assume that all memory is mapped with {page_size.value} pages before "
        "every walk, where memslots allow it, on one root, uncontended. "
        "Stale types: see 'mtrrzap audit'."
    )
