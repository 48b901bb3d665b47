"""Render tables for a terminal, and rows as JSON or CSV."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mtrrzap.errors import printable

MEMORY_UNKNOWN = (
    "the guest's memory is unknown, and so is what depends on it (-); "
    "give its size when importing the capture."
)
WIDE = 240
"""Columns assumed where the output is not a terminal, so that a pipe gets whole tables."""
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a text begins that a spreadsheet runs; a quote before it makes it a text again."""


def console(*, stderr: bool = False) -> Console:
    """Return a console that never wraps in a pipe."""
    plain = Console(stderr=stderr, highlight=False)
    if plain.is_terminal:
        return plain
    return Console(stderr=stderr, highlight=False, width=WIDE)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    numbers: frozenset[str] = frozenset(),
    group_by: int = 0,
) -> Table:
    """Return a table; a rule is drawn where the first ``group_by`` cells change."""
    # As Text: neither a file's name nor a query's column is markup.
    shown = None if title is None else Text(printable(title), style="bold")
    made = Table(title=shown, title_justify="left", header_style="bold")
    for column in columns:
        number = column in numbers
        header = Text(printable(column))
        made.add_column(
            header, justify="right" if number else "left", overflow="fold", no_wrap=number
        )
    last: Sequence[object] | None = None
    for row in rows:
        if last is not None and group_by and row[:group_by] != last[:group_by]:
            made.add_section()
        made.add_row(*(Text(cell(value)) for value in row))
        last = row
    return made


def cell(value: object) -> str:
    """Return a cell's text: None is a dash, a number has thousands separators."""
    if value is None:
        return "-"
    if type(value) is int:
        return f"{value:,}"
    return printable(str(value))


def fitting(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    droppable: Sequence[str],
    **look: Any,
) -> tuple[Table, list[str]]:
    """Return a table that fits the console, and the columns left out for that.

    ``droppable`` names what may be left out, the first one first; ``look`` is for ``table``.
    """
    for dropped in range(len(droppable) + 1):
        kept = [n for n, column in enumerate(columns) if column not in droppable[:dropped]]
        made = table([columns[n] for n in kept], [[row[n] for n in kept] for row in rows], **look)
        if width(console, made) <= console.width:
            break
    return made, list(droppable[:dropped])


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def numbers(values: Iterable[int]) -> str:
    """Return ascending numbers as ``0, 2-5``."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def width(console: Console, made: Table) -> int:
    """Return how many columns a table takes if nothing in it is wrapped."""
    unbound = console.options.update(max_width=1 << 16)
    return Measurement.get(console, unbound, made).maximum


def say(console: Console, line: str) -> None:
    """Print a line that may hold a trace's text: neither markup nor escape sequences work."""
    console.print(Text(printable(line)))


def as_json(value: Any) -> str:
    """Return a value as indented JSON; named tuples must have been made dicts."""
    return json.dumps(value, indent=2) + "\n"


def as_csv(rows: Iterable[Sequence[object]], fields: Sequence[str]) -> str:
    """Return rows as CSV with a header line; None is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_csv_cell, fields))
    writer.writerows(map(_csv_cell, row) for row in rows)
    return out.getvalue()


def _csv_cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula; a number stays one."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULA) else text
