"""``mtrrzap audit``: which entries may keep a stale memory type under a policy."""

import sys
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from mtrrzap.cli.options import (
    HostOptions,
    JsonOption,
    PageSize,
    PolicyOption,
    TraceArgument,
    policies,
    with_options,
)
from mtrrzap.cli.progress import working
from mtrrzap.errors import counted, docs_page
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm import audit as core
from mtrrzap.kvm.policy import Policy
from mtrrzap.report import audit_rows as report
from mtrrzap.report import text

SHOWN = 40
"""Rows printed for one group of policies; JSON has all."""
DROPPABLE = ("needless", "disagreements", "window only", "needed", "asked", "requests")
"""Columns left out, in this order, where the terminal is too narrow for all."""


@with_options
def audit(
    file: TraceArgument,
    policy: PolicyOption = None,
    *,
    host: HostOptions,
    page_size: Annotated[
        PageSize, typer.Option(help="Largest page with which the host backs the guest.")
    ] = PageSize.HUGE,
    windows: Annotated[
        bool,
        typer.Option(
            "--windows", help="Also list entries that are stale only during update windows."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Find page-table entries that may keep a stale memory type. Exit status 1 if there are any."""
    chosen = policies(policy)
    where = replace(host.host(), largest_page=page_size.level)
    found: list[tuple[Policy, core.Audit]] = []
    with working(f"reading {file}") as now:
        trace = traces.load(file)
        for each in chosen:
            now(f"auditing {each.name}, {len(found) + 1} of {len(chosen)}")
            found.append((each, core.audit(trace, each, where)))
    if json:
        sys.stdout.write(text.as_json([report.as_dict(*pair, trace) for pair in found]))
    else:
        _print(trace, found, windows=windows)
    if any(result.defects for _, result in found):
        raise typer.Exit(1)


def _print(trace: Trace, found: list[tuple[Policy, core.Audit]], *, windows: bool) -> None:
    console = text.console()
    columns = [name.replace("_", " ") for name in report.AuditRow._fields]
    text.print_table(
        console,
        columns,
        [report.summary(*pair, trace.header) for pair in found],
        title=f"Verdicts ({docs_page('audit')}); asked and needed are frames inside memslots",
        numbers=columns[2:],
        droppable=DROPPABLE,
    )
    for names, findings in report.alike(found):
        _print_findings(console, trace, names, findings, windows=windows)
    if not trace.header.memory_known:
        text.say(console, f"{trace.name}: {text.MEMORY_UNKNOWN}")
    if trace.incomplete is not None:
        text.say(console, f"The trace is INCOMPLETE: {trace.incomplete}")


def _print_findings(
    console: Console,
    trace: Trace,
    names: tuple[str, ...],
    findings: tuple[core.Finding, ...],
    *,
    windows: bool,
) -> None:
    shown = [f for f in findings if f.defect or windows]
    if not shown:
        return
    columns = (
        "gfns",
        "stale type",
        "right is",
        "times",
        "first since event",
        "first outside all windows",
        "last until event",
    )
    rows = report.stale(shown, trace)
    title = f"Stale under {', '.join(names)}"
    dropped = ("right is", "times", "first outside all windows")
    text.print_table(
        console, columns, rows[:SHOWN], title=title, numbers=("times",), droppable=dropped
    )
    if len(rows) > SHOWN:
        console.print(f"... and {counted(len(rows) - SHOWN, 'more row')}; --json has all.")
