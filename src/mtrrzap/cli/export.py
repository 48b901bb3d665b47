"""``mtrrzap export``: a trace in other tools' formats."""

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtrrzap.cli.options import (
    ForceOption,
    HostOptions,
    PageSize,
    PolicyOption,
    TraceArgument,
    policies,
    with_options,
)
from mtrrzap.cli.output import write
from mtrrzap.guest import csv_trace, parquet_trace
from mtrrzap.guest import open as traces
from mtrrzap.guest.files import distinct, kept
from mtrrzap.report import perfetto
from mtrrzap.report.perfetto_modelled import modelled_events


class Format(StrEnum):
    """What ``--format`` takes."""

    CSV = "csv"
    PARQUET = "parquet"
    PERFETTO = "perfetto"


@with_options
def export(
    file: TraceArgument,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            help="csv, parquet: one row an event; perfetto: JSON, with requests and zaps.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to; standard output if not given.")
    ] = None,
    policy: PolicyOption = None,
    *,
    host: HostOptions,
    page_size: Annotated[
        PageSize, typer.Option(help="Page size of the full page table of the leaves' counters.")
    ] = PageSize.SMALL,
    force: ForceOption = False,
) -> None:
    """Write a trace as CSV ('import' reads it back), as Parquet, or as JSON for the Perfetto UI.

    The policies and the host matter to the requests and the modelled zaps in perfetto's JSON only.
    """
    if output is not None:
        distinct({"--output": output}, {"FILE": file})
        kept(output, "--output", force=force)
    chosen = policies(policy)
    where = host.host()
    trace = traces.one(file)

    def requests(stamps: perfetto.Stamps) -> Iterator[perfetto.Item]:
        yield from perfetto.request_events(trace, chosen, where, page_size.level, stamps)
        yield from modelled_events(trace, chosen, where, page_size.level)

    pieces: Iterable[str] | bytes
    match form:
        case Format.CSV:
            pieces = csv_trace.lines(trace)
        case Format.PARQUET:
            pieces = parquet_trace.encoded(trace)
        case Format.PERFETTO:
            pieces = perfetto.chunks(trace, requests)
    if output is not None:
        write(output, pieces)
    elif isinstance(pieces, bytes):
        sys.stdout.buffer.write(pieces)
    else:
        sys.stdout.writelines(pieces)
