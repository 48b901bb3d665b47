"""``mtrrzap compare``: what each policy would zap, for each guest."""

import sys
from typing import Annotated

import typer

from mtrrzap.commands import traces
from mtrrzap.commands.options import (
    CsvOption,
    EptOption,
    HostMaxphyaddrOption,
    JsonOption,
    MemoryOption,
    NcdOption,
    PageSize,
    PolicyOption,
    QuirkOption,
    TracesArgument,
    VcpusOption,
    host,
    one_format,
    policies,
    rescaled,
)
from mtrrzap.kvm.replay import HOST_MAXPHYADDR
from mtrrzap.report import cost_model, text
from mtrrzap.report.compare import Row, rows


def compare(
    files: TracesArgument = None,
    policy: PolicyOption = None,
    *,
    host_maxphyaddr: HostMaxphyaddrOption = HOST_MAXPHYADDR,
    quirk: QuirkOption = True,
    ept: EptOption = True,
    noncoherent_dma: NcdOption = True,
    page_size: Annotated[
        PageSize, typer.Option(help="Page size of the full page table that the walks go through.")
    ] = PageSize.SMALL,
    vcpus: VcpusOption = None,
    memory: MemoryOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """Count what every policy zaps for every guest, and say if a stale type may survive it."""
    one_format(json=json, csv=csv)
    chosen = policies(policy)
    where = host(host_maxphyaddr, quirk=quirk, ept=ept, noncoherent_dma=noncoherent_dma)
    named = [(name, rescaled(each, vcpus, memory)) for name, each in traces.named(files or [])]
    found = list(rows(named, chosen, where, page_size.level))
    if json:
        sys.stdout.write(text.as_json([row._asdict() for row in found]))
    elif csv:
        sys.stdout.write(text.as_csv(found, Row._fields))
    else:
        _print(found, page_size)


def _print(found: list[Row], page_size: PageSize) -> None:
    names = {row.trace for row in found}
    clashing = {(row.guest, row.vcpus) for row in found}
    columns = ["guest", "vCPUs", "policy", "requests", "published", "ranges", "frames asked for"]
    columns += ["entries zapped", "visits", "stale types", "needed entries"]
    columns += ["modelled Mcycles", "modelled longest wait", "modelled later"]
    cells = [row[1:-2] for row in found]
    if len(clashing) < len(names):
        columns[0] = "trace"
        cells = [(row.trace, *row[2:-2]) for row in found]
    console = text.console()
    numbers = frozenset(columns) - {"guest", "trace", "policy", "stale types"}
    console.print(text.table(columns, cells, numbers=numbers, group_by=2))
    for name, why in {row.trace: row.incomplete for row in found}.items():
        if why is not None:
            console.print(
                f"{name}: INCOMPLETE ({why}): its figures are lower bounds.", markup=False
            )
    compared = [row for row in found if row.published is not None]
    if compared:
        equal = sum(row.requests == row.published for row in compared)
        console.print(
            f"{equal} of {len(compared)} published request counts come out equal. "
            "Requests, ranges and frames are counted from the trace; none is modelled."
        )
    console.print(
        f"Modelled figures are in millions of cycles and wrong by a factor of "
        f"{cost_model.error_factor():.2f} (geometric error on cells that no fit has seen, "
        "docs/validation.md). Needed entries: those whose type really changed, each zapped once."
    )
    console.print(
        f"Entries and visits: if before each walk all memory were mapped with {page_size.value} "
        "pages where memslots allow it, on one root, uncontended. "
        "Stale types: see 'mtrrzap audit'."
    )
