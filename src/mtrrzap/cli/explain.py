"""``mtrrzap explain``: the timeline of one policy on one trace."""

import sys
from typing import Annotated

import typer

from mtrrzap.cli.options import (
    GuestOptions,
    IntelHostOptions,
    JsonOption,
    PageSize,
    TraceArgument,
    with_options,
)
from mtrrzap.guest import open as traces
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import replay
from mtrrzap.report import text
from mtrrzap.report.explain import COLUMNS, PHASES, as_data, lines, phases
from mtrrzap.simulator import Guest, cost_model, simulate
from mtrrzap.simulator.arrivals import PATTERNS


@with_options
def explain(
    file: TraceArgument,
    policy: Annotated[str, typer.Option("--policy", "-p", help="A policy's name.")],
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
    trace = size.rescaled(traces.load(file))
    where = host.host()
    guest = Guest.of(trace, where, page_size.level, cost_model.costs())
    timed = trace.header.memory_known
    result = simulate(guest, chosen, replay(trace, chosen, where))
    if json:
        sys.stdout.write(text.as_json(as_data(result, trace.incomplete, timed=timed)))
        return
    console = text.console()
    numbers = frozenset(COLUMNS) - {"why", "waited for"}
    console.print(text.table(COLUMNS, lines(result, timed=timed), numbers=numbers))
    if not timed:
        text.say(console, f"{file}: {text.MEMORY_UNKNOWN}")
        return
    numbers = frozenset(PHASES) - {"stage"}
    console.print(text.table(PHASES, phases(result), title="Phases", numbers=numbers))
    if trace.incomplete is not None:
        text.say(console, f"INCOMPLETE ({trace.incomplete}): this is of what was recorded.")
    console.print(
        f"{chosen.name}: modelled {result.cycles / 1e6:.3g} Mcycles in {len(result.served)} "
        f"requests, wrong by a factor of {cost_model.error_factor():.2f}; {result.later / 1e6:.3g} "
        "Mcycles later, outside of requests. Times are millions of modelled cycles. vCPUs come in "
        f"one of {PATTERNS} patterns; what 'compare --modelled' prints is the mean over all."
    )
