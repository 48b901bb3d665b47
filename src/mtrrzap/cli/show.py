"""``mtrrzap show``: what one trace contains."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, fields

from rich.console import Console

from mtrrzap.cli.options import JsonOption, TraceArgument, with_options
from mtrrzap.cli.progress import working
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import Header, Trace, format_event
from mtrrzap.kvm.policy import POLICIES
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.windows import Window, windows
from mtrrzap.report import text
from mtrrzap.study import trace_summary as report
from mtrrzap.study.both_maps import MAX_ROWS
from mtrrzap.study.kernel_zaps import agreement, zap_rows


@with_options
def show(file: TraceArgument, *, json: JsonOption = False) -> None:
    """Show a trace: its header, events per vCPU, update windows, final memory types."""
    with working(f"reading {file}"):
        trace = traces.load(file)
    if json:
        sys.stdout.write(text.as_json(_as_dict(trace)))
        return
    console = text.console()
    _print_header(console, trace)
    _print_summaries(console, trace)
    _print_windows(console, trace)
    if trace.zaps is not None:
        _print_zaps(console, trace)
    _print_maps(console, trace)


def _as_dict(trace: Trace) -> dict[str, object]:
    return {
        "header": asdict(trace.header),
        "events": len(trace.events),
        "incomplete": trace.incomplete,
        "vcpus": [row._asdict() for row in report.summaries(trace)],
        "windows": [asdict(w) | {"others": sorted(w.others)} for w in windows(trace)],
        "final": [
            {
                "vcpus": group.vcpus,
                "map": [
                    row._asdict()
                    | {"sdm": None if row.sdm is None else str(row.sdm), "kvm": str(row.kvm)}
                    for row in group.map
                ],
                "whole": group.whole,
            }
            for group in report.groups(trace)
        ],
        "refused_by_kvm": [
            {"event": position, "line": format_event(event), "rule": rule}
            for position, event, rule in report.unmarked_refusals(trace)
        ],
        **({} if trace.zaps is None else {"kernel_zaps": _zaps_as_dict(trace)}),
    }


def _zaps_as_dict(trace: Trace) -> dict[str, object]:
    assert trace.zaps is not None
    return {
        "calls": [call._asdict() | {"range": list(call.range)} for call in trace.zaps.calls],
        "noncoherent_dma": [change._asdict() for change in trace.zaps.dma],
        "policies": dict(_agreements(trace)),
    }


def _agreements(trace: Trace) -> Iterator[tuple[str, dict[str, object]]]:
    """Compare with the policies of released kernels, on a host that is not told."""
    for policy in POLICIES:
        found = agreement(trace, policy, Host()) if policy.name.startswith("v") else None
        if found is not None:
            yield policy.name, found._asdict()


def _print_header(console: Console, trace: Trace) -> None:
    rows: list[tuple[str, object]] = []
    for field in fields(Header):
        value = getattr(trace.header, field.name)
        if field.name == "memory":
            value = f"{value:,} bytes" if value else "unknown"
        elif field.name == "memslots":
            value = ", ".join(f"[{s.start:#x}, {s.end:#x}) {s.what}" for s in value) or "unknown"
        elif field.name == "notes":
            rows += [("note", note) for note in value]
            continue
        rows.append((field.name.replace("_", " "), value))
    rows.append(("events", f"{len(trace.events):,}"))
    rows.append(("complete", "yes" if trace.incomplete is None else f"NO: {trace.incomplete}"))
    text.print_table(console, ("header", "value"), [row for row in rows if row[1] != ""])


def _print_summaries(console: Console, trace: Trace) -> None:
    columns = [name.replace("_", " ") for name in report.VcpuCounts._fields]
    text.print_table(
        console,
        columns,
        report.summaries(trace),
        title="Events per vCPU (writes are to MTRRs; CD toggles are changes by a CR0 write)",
        numbers=columns,
        droppable=columns[:1:-1],
    )
    for position, event, rule in report.unmarked_refusals(trace):
        line = f"event {position}: {format_event(event)}: KVM refuses it ({rule}); it has no effect"
        text.say(console, line)


def _print_windows(console: Console, trace: Trace) -> None:
    columns = ("events", "vCPU", "CD", "DEF_TYPE writes", "other MTRR writes", "overlaps vCPUs")
    text.print_table(
        console,
        columns,
        map(_window_cells, windows(trace)),
        title="Update windows: while CD = 1 or the MTRRs are disabled",
        numbers=columns[3:5],
        droppable=columns[5:2:-1],
    )


def _window_cells(window: Window) -> tuple[object, ...]:
    last = "open" if window.last is None else str(window.last)
    return (
        f"{window.first}-{last}",
        str(window.vcpu),
        "1" if window.cd else "0",
        window.def_type_writes,
        window.other_writes,
        text.numbers(sorted(window.others)) or "-",
    )


def _print_zaps(console: Console, trace: Trace) -> None:
    columns = ("event", "vCPU", "line", "gfns", "us", "leaves", "caller")
    text.print_table(
        console,
        columns,
        zap_rows(trace),
        title="The kernel's own zaps, measured: calls of kvm_zap_gfn_range",
        numbers=("event", "us", "leaves"),
        droppable=("caller", "line", "gfns"),
    )
    for name, found in _agreements(trace):
        difference = found["difference"]
        same = f"the policy asks for the same {found['calls']} zaps, range by range"
        text.say(console, f"{name}, with EPT: {same if difference is None else difference}")


def _print_maps(console: Console, trace: Trace) -> None:
    groups = report.groups(trace)
    agree = "All vCPUs end with the same MTRRs." if len(groups) == 1 else ""
    console.print(agree or f"The vCPUs' final MTRRs DIFFER: {len(groups)} groups.")
    for group in groups:
        rows = [
            (
                f"{row.start:#014x}",
                f"{row.end:#014x}",
                "undefined" if row.sdm is None else row.sdm,
                row.kvm,
                " ".join(row.deciders),
            )
            for row in group.map
        ]
        title = f"Final map of vCPU {text.numbers(group.vcpus)} (bytes, end exclusive)"
        columns = ("start", "end", "manual", "KVM", "decided by")
        text.print_table(console, columns, rows, title=title, droppable=columns[4:])
        if not group.whole:
            console.print(f"... and more: only the first {MAX_ROWS} rows are shown.")
