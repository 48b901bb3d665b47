"""``mtrrzap explain``: the timeline of one policy on one trace."""

import sys
from typing import Annotated

import typer

from mtrrzap.cli.options import (
    GuestOptions,
    IntelHostOptions,
    JsonOption,
    OnePolicyOption,
    PageSize,
    TraceArgument,
    with_options,
)
from mtrrzap.cli.progress import working
from mtrrzap.guest import open as traces
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import replay
from mtrrzap.report import text
from mtrrzap.report.explain import COLUMNS, DROPPABLE, PHASES, as_data, lines, phases
from mtrrzap.simulator import Guest, cost_model, simulate
from mtrrzap.simulator.arrivals import PATTERNS


@with_options
def explain(
    file: TraceArgument,
    policy: OnePolicyOption,
    *,
    host: IntelHostOptions,
    page_size: Annotated[
        PageSize, typer.Option(help="Page size by which the host backs the guest.")
    ] = PageSize.SMALL,
    size: GuestOptions,
    json: JsonOption = False,
) -> None:
    """Say who asked, who zapped and who waited for whom under one policy. All of it is modelled."""
    chosen = by_name(policy)
    where = host.host()
    with working(f"reading {file}") as now:
        trace = size.rescaled(traces.load(file))
        now(f"simulating {chosen.name}")
        guest = Guest.of(trace, where, page_size.level, cost_model.costs())
        result = simulate(guest, chosen, replay(trace, chosen, where))
    timed = trace.header.memory_known
    if json:
        sys.stdout.write(text.as_json(as_data(result, trace.incomplete, timed=timed)))
        return
    console = text.console()
    numbers = frozenset(COLUMNS) - {"why", "waited for"}
    text.print_table(
        console, COLUMNS, lines(result, timed=timed), numbers=numbers, droppable=DROPPABLE
    )
    if not timed:
        text.say(console, f"{file}: {text.MEMORY_UNKNOWN}")
        return
    numbers = frozenset(PHASES) - {"stage"}
    found = phases(result)
    text.print_table(console, PHASES, found, title="Phases", numbers=numbers, droppable=DROPPABLE)
    if trace.incomplete is not None:
        text.say(console, f"INCOMPLETE ({trace.incomplete}): this is of what was recorded.")
    console.print(
        f"{chosen.name}: modelled {result.cycles / 1e6:.3g} Mcycles in {len(result.served)} "
        f"requests, wrong by a factor of {cost_model.error_factor():.2f}; {result.later / 1e6:.3g} "
        "Mcycles later, outside of requests. Times are millions of modelled cycles. vCPUs come in "
        f"one of {PATTERNS} patterns; what 'compare --modelled' prints is the mean over all."
    )
