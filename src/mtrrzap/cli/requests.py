"""``mtrrzap requests``: every zap request of one trace under one policy."""

import sys

from rich.console import Console

from mtrrzap.cli.options import (
    FormatOptions,
    HostOptions,
    OnePolicyOption,
    TraceArgument,
    with_options,
)
from mtrrzap.cli.progress import working
from mtrrzap.errors import counted
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Request, replay
from mtrrzap.report import text


@with_options
def requests(
    file: TraceArgument,
    policy: OnePolicyOption,
    *,
    host: HostOptions,
    form: FormatOptions,
) -> None:
    """List every zap request of one trace under one policy: event, vCPU, cause and frames."""
    chosen = by_name(policy)
    with working(f"reading {file}") as now:
        trace = traces.load(file)
        now(f"replaying {chosen.name}")
        found = list(replay(trace, chosen, host.host()))
    if form.json:
        listed = [_as_dict(request) for request in found]
        whole = {"policy": chosen.name, "incomplete": trace.incomplete, "requests": listed}
        sys.stdout.write(text.as_json(whole))
        return
    columns = ("event", "vcpu", "why", "line", "ranges", "frames")
    rows = [_row(request, trace) for request in found]
    if form.csv:
        sys.stdout.write(text.as_csv(rows, columns))
        _warn(text.console(stderr=True), trace)
        return
    console = text.console()
    numbers = ("event", "vcpu", "frames")
    text.print_table(console, columns, rows, numbers=numbers, droppable=("line", "ranges"))
    console.print(
        f"{counted(len(found), 'request')} under {chosen.name}; ranges are gfns, half-open."
    )
    _warn(console, trace)


def _row(request: Request, trace: Trace) -> tuple[object, ...]:
    event, vcpu, why, ranges = request
    line = format_event(trace.events[event])
    return event, vcpu, why.value, line, " ".join(map(str, ranges)) or "none", request.frames


def _warn(console: Console, trace: Trace) -> None:
    if trace.incomplete is not None:
        text.say(console, f"The trace is INCOMPLETE: {trace.incomplete}")


def _as_dict(request: Request) -> dict[str, object]:
    return request._asdict() | {"ranges": [list(part) for part in request.ranges]}
