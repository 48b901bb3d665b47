"""``mtrrzap explain``: the timeline of one policy on one trace."""

import sys
from typing import Annotated

import typer

from mtrrzap.api.simulation import simulate
from mtrrzap.api.traces import load
from mtrrzap.cli.options import (
    GuestOptions,
    IntelHostOptions,
    JsonOption,
    OnePolicyOption,
    TraceArgument,
    with_options,
)
from mtrrzap.cli.progress import working
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.tdp.levels import PageSize
from mtrrzap.report import text


@with_options
def explain(
    file: TraceArgument,
    policy: OnePolicyOption,
    *,
    host: IntelHostOptions,
    page_size: Annotated[
        PageSize, typer.Option(help="Page size by which the host backs the guest.")
    ] = "4K",
    size: GuestOptions,
    json: JsonOption = False,
) -> None:
    """Say who asked, who zapped and who waited for whom under one policy. All of it is modelled."""
    chosen = by_name(policy)
    with working(f"reading {file}") as now:
        trace = size.rescaled(load(file))
        now(f"simulating {chosen.name}")
        found = simulate(trace, chosen, host=host.host(), page_size=page_size)
    if json:
        sys.stdout.write(text.as_json(found.to_dict()))
    else:
        found.print_to(text.console())
