"""``mtrrzap audit``: which entries may keep a stale memory type under a policy."""

import sys
from dataclasses import replace
from typing import Annotated

import typer

from mtrrzap.api.audits import AuditResult, AuditResults
from mtrrzap.api.audits import audit as run
from mtrrzap.api.traces import policies_of
from mtrrzap.cli.options import (
    HostOptions,
    JsonOption,
    PolicyOption,
    TraceArgument,
    unused,
    with_options,
)
from mtrrzap.cli.progress import working
from mtrrzap.guest import open as traces
from mtrrzap.kvm.tdp.levels import PageSize, level_of
from mtrrzap.report import text


@with_options
def audit(
    file: TraceArgument,
    policy: PolicyOption = None,
    *,
    host: HostOptions,
    page_size: Annotated[
        PageSize, typer.Option(help="Largest page with which the host backs the guest.")
    ] = "1G",
    windows: Annotated[
        bool,
        typer.Option(
            "--windows", help="Also list entries that are stale only during update windows."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Find page-table entries that may keep a stale memory type. Exit status 1 if there are any."""
    if json:
        unused("with --json, which has these entries always", "windows")
    chosen = policies_of(policy or None)
    where = replace(host.host(), largest_page=level_of(page_size))
    found: list[AuditResult] = []
    with working(f"reading {file}") as now:
        trace = traces.load(file)
        for each in chosen:
            now(f"auditing {each.name}, {len(found) + 1} of {len(chosen)}")
            found.append(run(trace, each, host=where))
    if json:
        sys.stdout.write(text.as_json([each.to_dict() for each in found]))
    else:
        AuditResults(found, windows=windows).print_to(text.console())
    if any(each.defects for each in found):
        raise typer.Exit(1)
