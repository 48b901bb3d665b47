"""``mtrrzap sweep show``: a sweep's results as tables, plots, a page, or what SQL asks."""

import math
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from mtrrzap.cli.options import ForceOption, FormatOptions, with_options
from mtrrzap.cli.output import note, result, write, writing
from mtrrzap.cli.progress import working
from mtrrzap.errors import UserError, counted, docs_page, printable
from mtrrzap.guest.files import kept
from mtrrzap.report import text
from mtrrzap.simulator import cost_model
from mtrrzap.study.units import mcycles
from mtrrzap.sweep.columns import FAILED, REFUSED
from mtrrzap.sweep.curves import GuestCurves, guest_curves, vcpus
from mtrrzap.sweep.grid import CHECK, SIMULATE
from mtrrzap.sweep.page import page
from mtrrzap.sweep.plot import plot
from mtrrzap.sweep.query import QueryAnswer, Results

ResultsArgument = Annotated[Path, typer.Argument(help="A directory that 'mtrrzap sweep' wrote.")]
Sql = Annotated[
    str | None,
    typer.Option(
        help=f"Answer one SELECT (DuckDB) on the tables cells and timing ({docs_page('sweep')})."
    ),
]
Plots = Annotated[
    Path | None, typer.Option(help="Write a plot (SVG) of each guest into this directory.")
]
PageOption = Annotated[
    Path | None, typer.Option("--page", help="Write a page (Markdown), with its plots beside it.")
]

SWARM = """
SELECT protocol, vcpus AS "vCPUs", requests, strategy, count(*) AS cells,
       count(*) FILTER (verdict = 'violated') AS violated,
       sum(executions)::BIGINT AS executions, sum(steps)::BIGINT AS steps,
       min(executions) FILTER (verdict = 'violated') AS "found after",
       min(schedule_steps) AS "schedule"
FROM cells WHERE status = 'done' GROUP BY ALL ORDER BY min(number)
"""


@with_options
def sweep_show(
    results: ResultsArgument,
    *,
    sql: Sql = None,
    plots: Plots = None,
    page_: PageOption = None,
    form: FormatOptions,
    force: ForceOption = False,
) -> None:
    """Show the results of a sweep, complete or not."""
    with working(f"reading {results}"):
        found = Results(results)
    for path in found.damaged:
        note(f"mtrrzap: {path} is damaged and skipped; run the sweep again to replace it")
    if (plots or page_) and found.kind != SIMULATE:
        raise UserError(
            "this sweep has no plots", place=str(results), mend="plots need kind simulate"
        )
    if plots is not None:
        with working("drawing the plots"):
            made_plots = {f"{w.file}.svg": plot(w, w.crossings()) for w in guest_curves(found)}
        _write(made_plots, plots, "plots", force=force)
    if page_ is not None:
        with working("writing the page"):
            made = page(found, page_.stem)
        _write({page_.name: made.text, **made.plots}, page_.parent, "page", force=force)
    if sql is not None or form.json or form.csv:
        with working("asking DuckDB"):
            answer = found.ask(sql or "SELECT * FROM cells")
        _print(answer, json=form.json, csv=form.csv)
    elif plots is None and page_ is None:
        _tables(found)


def _write(files: dict[str, str], directory: Path, role: str, *, force: bool) -> None:
    for name in files:
        kept(directory / name, role, force=force)
    with writing(directory, "name a directory"):
        directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write(directory / name, [printable(content, keep="\n")])
        result(str(directory / name))


def _print(answer: QueryAnswer, *, json: bool, csv: bool) -> None:
    if json:
        rows = [
            {name: _plain(value) for name, value in zip(answer.columns, row, strict=True)}
            for row in answer.rows
        ]
        sys.stdout.write(text.as_json(rows))
    elif csv:
        sys.stdout.write(text.as_csv(answer.rows, answer.columns))
    else:
        _table(answer.columns, answer.rows)


def _plain(value: object) -> object:
    """Return what JSON has a word for: SQL knows decimals, dates and more."""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def _table(columns: tuple[str, ...], rows: list[tuple[object, ...]], group_by: int = 0) -> None:
    numbers = [
        name
        for at, name in enumerate(columns)
        if all(isinstance(row[at], int | float | Decimal | None) for row in rows)
    ]
    text.print_table(text.console(), columns, rows, numbers=numbers, group_by=group_by)


def _tables(found: Results) -> None:
    console = text.console()
    for line in _head(found):
        text.say(console, line)
    if found.kind == CHECK:
        answer = found.ask(SWARM)
        _table(answer.columns, answer.rows)
        return
    every = guest_curves(found)
    for guest in every:
        at = sorted({n for curve in guest.curves.values() for n in curve})
        rows: list[tuple[object, ...]] = [
            (policy, *(mcycles(curve[n]) if n in curve else None for n in at))
            for policy, curve in guest.curves.items()
        ]
        text.say(console, f"{guest.title}: modelled Mcycles by vCPUs")
        columns = ("policy", *(f"{n:,}" for n in at))
        text.print_table(console, columns, rows, numbers=columns[1:])
    crossings = [row for guest in every for row in _crossings(guest)]
    if crossings:
        _table(("guest", "from vCPUs", "cheaper is", "than"), crossings, group_by=1)
    text.say(
        console,
        "Modelled figures are accurate to within a factor of "
        f"{cost_model.error_factor():.2f} ({docs_page('validation')}). Crossings are interpolated.",
    )


def _crossings(guest: GuestCurves) -> Iterator[tuple[object, ...]]:
    for crossing in guest.crossings():
        at = f"{vcpus(crossing.at)}{guest.wanders(crossing)}"
        yield guest.title, at, crossing.above, crossing.below


def _head(found: Results) -> Iterator[str]:
    counts = found.statuses()
    told = ", ".join(f"{count:,} {status}" for status, count in counts.items()) or "none done"
    title = found.manifest["title"]
    yield f"{title or found.directory}: {counted(found.cells, 'cell')}, {told}."
    for status in (REFUSED, FAILED):
        for reason, count in found.reasons(status)[:10]:
            yield f"{count:,} {status}: {reason}"
