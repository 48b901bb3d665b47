"""``mtrrzap compare``: what each policy would zap, for each guest."""

import sys
from typing import Annotated

import typer

from mtrrzap.api.comparison import Comparison
from mtrrzap.api.traces import policies_of
from mtrrzap.cli.options import (
    FormatOptions,
    GuestOptions,
    HostOptions,
    PolicyOption,
    TracesArgument,
    with_options,
)
from mtrrzap.cli.progress import working
from mtrrzap.guest import open as traces
from mtrrzap.kvm.tdp.levels import PageSize, level_of
from mtrrzap.report import text
from mtrrzap.study.compare import CompareRow, rows


@with_options
def compare(
    files: TracesArgument = None,
    policy: PolicyOption = None,
    *,
    host: HostOptions,
    page_size: Annotated[
        PageSize, typer.Option(help="Page size of the fully populated table that zaps walk.")
    ] = "4K",
    guest: GuestOptions,
    modelled: Annotated[
        bool, typer.Option("--modelled", help="Print modelled cycles instead of counts.")
    ] = False,
    form: FormatOptions,
) -> None:
    """Count what every policy zaps for every guest, and say whether a stale type may survive."""
    chosen = policies_of(policy or None)
    wanted = modelled or form.json or form.csv
    found: list[CompareRow] = []
    with working("reading traces") as now:
        named = [(name, guest.rescaled(each)) for name, each in traces.load_all(files or [])]
        now("replaying the first policy")
        for row in rows(named, chosen, host.host(), level_of(page_size), modelled=wanted):
            found.append(row)
            now(f"{len(found)} of {len(named) * len(chosen)} rows")
    whole = Comparison(found, page_size, modelled=modelled)
    if form.json:
        sys.stdout.write(text.as_json(whole.to_dict()))
    elif form.csv:
        measured = any(row.kernel_zaps is not None for row in found)
        fields = CompareRow._fields if measured else CompareRow._fields[:-2]
        sys.stdout.write(text.as_csv([row[: len(fields)] for row in found], fields))
    else:
        whole.print_to(text.console())
