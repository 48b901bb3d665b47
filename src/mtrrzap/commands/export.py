"""``mtrrzap export``: a trace in other tools' formats."""

import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtrrzap.commands import traces
from mtrrzap.commands.options import TraceArgument
from mtrrzap.errors import UserError
from mtrrzap.guest import csv_trace
from mtrrzap.report import perfetto


class Format(StrEnum):
    """What ``--format`` takes."""

    CSV = "csv"
    PERFETTO = "perfetto"


def export(
    file: TraceArgument,
    form: Annotated[
        Format, typer.Option("--format", "-f", help="csv: one row an event; perfetto: JSON.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to; standard output if not given.")
    ] = None,
) -> None:
    """Write a trace as CSV ('import' reads it back) or as JSON for the Perfetto UI."""
    trace = traces.one(file)
    pieces = csv_trace.lines(trace) if form is Format.CSV else perfetto.chunks(trace)
    if output is None:
        sys.stdout.writelines(pieces)
    else:
        write(output, pieces)


def write(path: Path, pieces: Iterable[str]) -> None:
    """Write text to a file. Raises ``UserError`` if that fails."""
    try:
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(pieces)
    except OSError as error:
        raise UserError(
            f"cannot be written: {error.strerror}", place=str(path), mend="choose another place"
        ) from error
