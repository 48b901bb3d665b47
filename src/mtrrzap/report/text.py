"""Render tables for a terminal, and rows as JSON or CSV."""

import csv
import io
import json
import sys
import textwrap
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mtrrzap.errors import printable

MEMORY_UNKNOWN = (
    "the guest's memory is unknown, and so is what depends on it (-); "
    "give its size when importing the capture."
)
WIDE = 240
"""Columns of a table in a pipe; it takes more if its numbers need them."""
_ENDLESS = 1 << 16
"""Columns of a line in a pipe, where nothing is wrapped."""
_PROSE = 10
"""Columns that words get at least, where there are so many of them."""
_FOLDED = 40
"""A longer word (a path) is folded where that is needed; a number never is."""
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a text begins that a spreadsheet runs; a quote before it makes it a text again."""


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal; in a pipe it wraps no line."""
    stream = sys.stderr if stderr else sys.stdout
    terminal = stream is not None and stream.isatty()
    width = None if terminal else _ENDLESS
    return Console(stderr=stderr, highlight=False, force_terminal=terminal, width=width)


def print_table(
    out: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    numbers: Collection[str] = (),
    droppable: Sequence[str] = (),
    group_by: int = 0,
    ruled: bool = False,
) -> None:
    """Print a table that fits the terminal: words are wrapped, a number is never cut.

    Where the terminal is too narrow, columns are left out, ``droppable[0]`` first, and named in a
    line below. Where even that is not enough, each row is printed as lines of ``column: value``.
    In a pipe a table is as wide as it has to be. Rules are drawn where the first ``group_by`` cells
    change, or between all rows (``ruled``).
    """
    cells = [[cell(value) for value in row] for row in rows]
    every = [
        _Column(name, [row[n] for row in cells], name in numbers) for n, name in enumerate(columns)
    ]
    if title:
        out.print(Text(printable(title), style="bold"))
    kept, left_out = _fitting(out, every, droppable)
    if not kept:
        _print_rows(out, every)
        return
    rules = [
        n > 0 and (ruled or row[:group_by] != cells[n - 1][:group_by])
        for n, row in enumerate(cells)
    ]
    _print_grid(out, kept, rules)
    if left_out:
        say(out, f"Left out; a wider terminal or a pipe shows them: {', '.join(left_out)}.")


class _Column:
    """A column of a table, and the least and the most columns of the terminal that it can use."""

    def __init__(self, name: str, cells: list[str], number: bool) -> None:
        self.head, self.cells, self.number = printable(name), cells, number
        lines = [line for text in cells for line in text.split("\n")]
        words = [word for line in lines for word in line.split(" ")]
        self.most = max(map(cell_len, [self.head, *lines]))
        whole = lines if number else [word for word in words if len(word) <= _FOLDED]
        longest = max(map(cell_len, [*self.head.split(" "), *whole]))
        self.least = longest if number else max(longest, min(self.most, _PROSE))


def _room(out: Console, columns: Sequence[_Column]) -> int:
    """Return the columns left for cells by the borders and the blanks beside each cell."""
    borders = 3 * len(columns) + 1
    if out.is_terminal:
        return out.width - borders
    return max(WIDE - borders, sum(column.least for column in columns))


def _fitting(
    out: Console, columns: Sequence[_Column], droppable: Sequence[str]
) -> tuple[list[_Column], list[str]]:
    """Return the columns that fit together, none if there is no way, and those left out."""
    kept, left_out = list(columns), list[str]()
    for dropped in (None, *droppable):
        if any(column.head == dropped for column in kept):
            kept = [column for column in kept if column.head != dropped]
            left_out.append(str(dropped))
        if sum(column.least for column in kept) <= _room(out, kept):
            return kept, left_out
    return [], []


def _widths(out: Console, columns: Sequence[_Column]) -> list[int]:
    """Return what each column gets: the wide ones as much as is left for them, alike."""
    room = _room(out, columns)

    def given(limit: int) -> list[int]:
        return [max(column.least, min(column.most, limit)) for column in columns]

    limits = range(max(column.most for column in columns) + 1)
    fitting = bisect_right(limits, room, key=lambda limit: sum(given(limit)))
    return given(max(fitting - 1, 0))


_FRAMES = ("┏━┳┓", "┃ ┃┃", "┡━╇┩", "│ ││", "├─┼┤", "└─┴┘")
"""Left, fill, between, right: of the top, the heads, the rule below them, rows, rules, the end."""
_ASCII = str.maketrans("┏━┳┓┃┡╇┩│├─┼┤└┴┘", "+-++|+++|+-+++++")
_AT_ONCE = 500
"""Rows that are written together."""


def _print_grid(out: Console, columns: Sequence[_Column], rules: Sequence[bool]) -> None:
    """Print a table whose columns fit, with a rule before some rows.

    Rich would draw the same, some twenty times as slowly: a trace may have a million requests.
    """
    widths = _widths(out, columns)
    ascii_only = not out.encoding.startswith("utf")
    frames = [frame.translate(_ASCII) if ascii_only else frame for frame in _FRAMES]
    top, head, under, body, between, end = frames

    def rule(frame: str) -> str:
        return frame[0] + frame[2].join(frame[1] * (width + 2) for width in widths) + frame[3]

    def lines(texts: Iterable[str], edge: str, *, low: bool = False) -> Iterator[str]:
        parts = [_wrapped(out, text, width) for text, width in zip(texts, widths, strict=True)]
        height = max(map(len, parts))
        for n, part in enumerate(parts):
            blank = [""] * (height - len(part))
            parts[n] = [*blank, *part] if low else [*part, *blank]
        for line in zip(*parts, strict=True):
            filled = map(_filled, line, widths, (column.number for column in columns))
            yield f"{edge} {f' {edge} '.join(filled)} {edge}"

    out.print(Text(rule(top)))
    for line in lines((column.head for column in columns), head[0], low=True):
        out.print(Text(line, style="bold"))
    pending = [rule(under)]
    for ruled, *row in zip(rules, *(column.cells for column in columns), strict=True):
        pending += [rule(between)] if ruled else []
        pending += lines(row, body[0])
        if len(pending) >= _AT_ONCE:
            out.out("\n".join(pending), highlight=False)
            pending.clear()
    out.out("\n".join([*pending, rule(end)]), highlight=False)


def _wrapped(out: Console, text: str, width: int) -> list[str]:
    """Return the lines of a cell; words are folded only where they are longer than a line."""
    found: list[str] = []
    for line in text.split("\n"):
        if len(line) <= width and cell_len(line) <= width:
            found.append(line)
        else:
            found += (part.plain.rstrip() for part in Text(line).wrap(out, width, overflow="fold"))
    return found


def _filled(text: str, width: int, number: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if number else text + blanks


def _print_rows(out: Console, columns: Sequence[_Column]) -> None:
    """Print each row as lines of ``column: value``."""
    for n in range(len(columns[0].cells)):
        if n:
            out.print()
        for column in columns:
            lines = f"{column.head}: {column.cells[n]}".split("\n")
            for number, line in enumerate(lines):
                first = "    " if number else ""
                wrapped = textwrap.wrap(
                    line,
                    out.width,
                    initial_indent=first,
                    subsequent_indent="    ",
                    break_on_hyphens=False,
                )
                for part in wrapped:
                    out.print(Text(part))


def cell(value: object) -> str:
    """Return a cell's text: None is a dash, a number has thousands separators."""
    if value is None:
        return "-"
    if type(value) is int:
        return f"{value:,}"
    return "\n".join(map(printable, str(value).split("\n")))


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
