"""HTML as text, escaped unless it is known to be HTML already; tables whose columns sort."""

import json
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

MAX_ROWS = 1000
"""Rows of one table; what is left out is said."""


class Markup(str):
    """Text that is HTML. Any other text is escaped when it becomes part of an element."""

    __slots__ = ()


def join(*children: object) -> Markup:
    """Concatenate; None is left out, and everything but ``Markup`` is escaped."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(str(child))
            for child in children
            if child is not None
        )
    )


def el(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; ``class_`` is ``class``, ``aria_label`` is ``aria-label``.

    An attribute that is None or False is left out, one that is True has no value.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{escape(str(value))}"')
    return Markup(f"<{' '.join(words)}>{join(*children)}</{name}>")


def data_block(value: object) -> Markup:
    """Return JSON for a ``script`` element: nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


class TableCell(NamedTuple):
    """What a cell shows, and by what its column sorts."""

    shows: object
    sorts: int | str | None = None
    bar: float | None = None
    """0 to 1 of the column's largest value."""


def number(value: int | None, largest: int = 0) -> TableCell:
    """Return a number with thousands separators; with a bar, if a largest value is given."""
    if value is None:
        return TableCell("-", -1)
    return TableCell(f"{value:,}", value, value / largest if largest else None)


def table(
    caption: object,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    numbers: frozenset[str] = frozenset(),
    sortable: bool = True,
) -> Markup:
    """Return a table; a cell other than a ``TableCell`` is shown and sorted as it is."""
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
    cell = value if isinstance(value, TableCell) else TableCell(value)
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
