"""``mtrrzap export``: a trace in other tools' formats."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from mtrrzap.api.traces import policies_of
from mtrrzap.cli.options import (
    STDOUT,
    ForceOption,
    HostOptions,
    PolicyOption,
    TraceArgument,
    unused,
    with_options,
)
from mtrrzap.cli.output import put
from mtrrzap.cli.progress import working
from mtrrzap.guest import open as traces
from mtrrzap.guest import tabular
from mtrrzap.guest.files import distinct, kept
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.tdp.levels import PageSize, level_of
from mtrrzap.report import perfetto
from mtrrzap.report.perfetto_modelled import modelled_events


@with_options
def export(
    file: TraceArgument,
    form: Annotated[
        Literal["csv", "parquet", "perfetto"],
        typer.Option(
            "--format",
            "-f",
            help="csv or parquet: a row an event; perfetto: JSON with requests and zaps.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to write; - is standard output, the default."
        ),
    ] = None,
    policy: PolicyOption = None,
    *,
    host: HostOptions,
    page_size: Annotated[
        PageSize,
        typer.Option(help="Page size of the fully populated table whose leaves are counted."),
    ] = "4K",
    force: ForceOption = False,
) -> None:
    """Write a trace as CSV ('import' reads it back), as Parquet, or as JSON for the Perfetto UI.

    Policies and host options apply to perfetto's JSON only: to its requests and modelled zaps.
    """
    output = None if output == STDOUT else output
    if output is not None:
        distinct({"--output": output}, {"FILE": file})
        kept(output, "--output", force=force)
    if form != "perfetto":
        hosts = ("host_maxphyaddr", "quirk", "ept", "noncoherent_dma")
        unused(f"with --format {form}", "policy", *hosts, "page_size")
    chosen = policies_of(policy or None)
    with working(f"reading {file}") as now:
        trace = traces.load(file)
        if form == "parquet":
            put(tabular.parquet_bytes(trace), output)
        elif form == "csv":
            put(_told(tabular.csv_lines(trace), now), output)
        else:
            put(_told(_perfetto(trace, chosen, host.host(), level_of(page_size)), now), output)


def _told(pieces: Iterable[str], now: Callable[[str], None]) -> Iterator[str]:
    """Yield the pieces, and say how much has been written."""
    written = 0
    for piece in pieces:
        written += len(piece)
        now(f"{written >> 20:,} MiB written")
        yield piece


def _perfetto(
    trace: Trace, chosen: tuple[Policy, ...], where: Host, page_level: int
) -> Iterator[str]:
    def requests(stamps: perfetto.Stamps) -> Iterator[perfetto.Item]:
        yield from perfetto.request_events(trace, chosen, where, page_level, stamps)
        yield from modelled_events(trace, chosen, where, page_level)

    return perfetto.chunks(trace, requests)
