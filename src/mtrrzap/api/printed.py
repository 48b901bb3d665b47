"""How a result prints itself: tables as text, and as HTML in a notebook."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


class Sheet(NamedTuple):
    """A table before it is rendered; a cell of None prints as a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""
    numbers: frozenset[str] = frozenset()
    """Columns that align right."""
    droppable: Sequence[str] = ()
    """Columns to leave out, in this order, where the terminal is too narrow."""
    group_by: int = 0
    """Draw a rule where the first so many cells change."""


class Printed:
    """A result: ``str`` gives its tables as text, a notebook shows them as HTML."""

    def _sheets(self) -> Iterable[Sheet]:
        raise NotImplementedError

    def _drawings(self) -> Iterable[Text]:
        return ()

    def _remarks(self) -> Iterable[str]:
        return ()

    def print_to(self, console: Console) -> None:
        """Print the tables, then the drawings and the remarks."""
        from mtrrzap.report import text

        for sheet in self._sheets():
            text.print_table(console, **sheet._asdict())
        for drawing in self._drawings():
            console.print(drawing)
        for remark in self._remarks():
            text.say(console, remark)

    def __str__(self) -> str:
        """Render for the terminal, or 240 columns wide where there is none."""
        from rich.console import Console

        from mtrrzap.report import text

        out = io.StringIO()
        shown = text.console()
        console = Console(
            file=out,
            width=shown.width,
            force_terminal=shown.is_terminal,
            color_system=None,
            highlight=False,
        )
        self.print_to(console)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())

    def _repr_html_(self) -> str:
        """Render as HTML tables without a style of their own; every text is escaped."""
        tables = "".join(map(_table, self._sheets()))
        return tables + "".join(f"<p>{html.escape(remark)}</p>" for remark in self._remarks())


def _table(sheet: Sheet) -> str:
    caption = f"<caption>{html.escape(sheet.title)}</caption>" if sheet.title else ""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in sheet.columns)
    body = "".join(f"<tr>{''.join(_cells(sheet, row))}</tr>" for row in sheet.rows)
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(sheet: Sheet, row: Sequence[object]) -> Iterable[str]:
    from mtrrzap.report import text

    for column, value in zip(sheet.columns, row, strict=True):
        align = ' style="text-align: right"' if column in sheet.numbers else ""
        yield f"<td{align}>{html.escape(text.cell(value))}</td>"
