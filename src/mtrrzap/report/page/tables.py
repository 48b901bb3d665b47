"""Tables whose columns sort, and whose numbers have bars."""

from collections.abc import Sequence
from typing import NamedTuple

from mtrrzap.report.page.markup import Markup, el

MAX_ROWS = 1000
"""Rows of one table; what is left out is said."""


class Cell(NamedTuple):
    """What a cell shows, and by what its column sorts."""

    shows: object
    sorts: int | str | None = None
    bar: float | None = None
    """0 to 1 of the column's largest value."""


def number(value: int | None, largest: int = 0) -> Cell:
    """Return a number with thousands separators; with a bar, if a largest value is given."""
    if value is None:
        return Cell("-", -1)
    return Cell(f"{value:,}", value, value / largest if largest else None)


def table(
    caption: object,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    numbers: frozenset[str] = frozenset(),
    sortable: bool = True,
) -> Markup:
    """Return a table; a cell that is no ``Cell`` is shown and sorted as it is."""
    head = [
        el(
            "th",
            el("button", column, type="button") if sortable else column,
            scope="col",
            class_="n" if column in numbers else None,
            aria_sort="none" if sortable else None,
        )
        for column in columns
    ]
    body = [
        el(
            "tr",
            *(_cell(value, column in numbers) for value, column in zip(row, columns, strict=True)),
        )
        for row in rows[:MAX_ROWS]
    ]
    left_out = len(rows) - len(body)
    more = el("p", f"… and {left_out:,} more rows", class_="more") if left_out else None
    made = el(
        "table",
        el("caption", caption),
        el("thead", el("tr", *head)),
        el("tbody", *body),
        class_="sortable" if sortable else None,
    )
    return el("div", made, more, class_="table")


def _cell(value: object, is_number: bool) -> Markup:
    cell = value if isinstance(value, Cell) else Cell(value)
    bar = None
    if cell.bar is not None:
        bar = el("i", class_="bar", style=f"width:{100 * cell.bar:.2f}%")
    return el(
        "td",
        bar,
        el("span", cell.shows) if bar else cell.shows,
        class_="n" if is_number else None,
        data_v=cell.sorts,
    )
