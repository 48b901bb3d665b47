"""``mtrrzap requests``: every zap request of one trace under one policy."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from mtrrzap.cli.options import (
    CsvOption,
    EptOption,
    HostMaxphyaddrOption,
    JsonOption,
    NcdOption,
    QuirkOption,
    TraceArgument,
    host,
    one_format,
)
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import HOST_MAXPHYADDR, Request, replay
from mtrrzap.report import text


def requests(
    file: TraceArgument,
    policy: Annotated[str, typer.Option("--policy", "-p", help="The policy's name.")],
    *,
    host_maxphyaddr: HostMaxphyaddrOption = HOST_MAXPHYADDR,
    quirk: QuirkOption = True,
    ept: EptOption = True,
    noncoherent_dma: NcdOption = True,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """List the zap requests of one trace under one policy: event, vCPU, why, which frames."""
    one_format(json=json, csv=csv)
    chosen = by_name(policy)
    trace = traces.load(file)
    where = host(host_maxphyaddr, quirk=quirk, ept=ept, noncoherent_dma=noncoherent_dma)
    found = list(replay(trace, chosen, where))
    if json:
        listed = [_as_dict(request) for request in found]
        whole = {"policy": chosen.name, "incomplete": trace.incomplete, "requests": listed}
        sys.stdout.write(text.as_json(whole))
        return
    columns = ("event", "vcpu", "why", "line", "ranges", "frames")
    rows = [
        (
            request.event,
            request.vcpu,
            request.why.value,
            format_event(trace.events[request.event]),
            " ".join(map(str, request.ranges)) or "none",
            request.frames,
        )
        for request in found
    ]
    if csv:
        sys.stdout.write(text.as_csv(rows, columns))
        _warn(text.console(stderr=True), trace)
        return
    console = text.console()
    console.print(text.table(columns, rows, numbers=frozenset(("event", "vcpu", "frames"))))
    console.print(f"{len(found)} requests under {chosen.name}; ranges are gfns, half-open.")
    _warn(console, trace)


def _warn(console: Console, trace: Trace) -> None:
    if trace.incomplete is not None:
        text.say(console, f"The trace is INCOMPLETE: {trace.incomplete}")


def _as_dict(request: Request) -> dict[str, object]:
    return request._asdict() | {"ranges": [list(part) for part in request.ranges]}
