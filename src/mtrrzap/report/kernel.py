"""What a real kernel did beside what a policy says, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.console import Console

from mtrrzap.guest.trace import format_event
from mtrrzap.kernel.calls import Call
from mtrrzap.kernel.compare import Outcome, Row
from mtrrzap.kernel.judge import Beside, Verdict, shown
from mtrrzap.kernel.perform import Record
from mtrrzap.kernel.storm import Storm
from mtrrzap.kvm.policy import Policy
from mtrrzap.report import text

COLUMNS = ("trace", "vCPUs", "quirk", "events", "refused", "kernel's calls", "requests", "first")
_NUMBERS = frozenset({"vCPUs", "events", "refused", "kernel's calls", "requests"})


def line(row: Row) -> list[object]:
    """Return a row's cells, in the order of ``COLUMNS``."""
    verdict = row.verdict
    return [
        row.name,
        row.trace.header.vcpus,
        "on" if row.quirk else "off",
        len(row.trace.events),
        verdict.refused,
        verdict.calls,
        verdict.requests,
        verdict.first or "no difference",
    ]


def print_outcome(console: Console, outcome: Outcome) -> None:
    """Print the table, the controls, and what is not judged."""
    columns = [*COLUMNS[:-1], "first difference"]
    columns[6] = f"requests of {outcome.policy.name}"
    title = f"Linux {outcome.kernel}, {outcome.second_stage}, beside {outcome.policy.name}"
    cells = [line(row) for row in outcome.rows]
    numbers = _NUMBERS | {columns[6]}
    text.print_table(console, columns, cells, title=title, numbers=numbers)
    rows = [
        (control.name, "as it must" if control.passed else "FAILED", control.what)
        for control in outcome.controls
    ]
    text.print_table(console, ("control", "came out", "what it showed"), rows)
    differ = sum(len(row.verdict.differences) for row in outcome.rows)
    failed = sum(not control.passed for control in outcome.controls)
    text.say(console, f"{differ:,} differences, {failed} failed controls.")
    if outcome.unseen:
        hidden = "; ".join(f"{field} ({why})" for field, why in outcome.unseen.items())
        text.say(console, f"Fields of the policy that are not judged: {hidden}.")


def as_data(outcome: Outcome) -> dict[str, object]:
    """Return the whole outcome as JSON's types."""
    return {
        "kernel": outcome.kernel,
        "second stage": outcome.second_stage,
        "policy": outcome.policy.name,
        "same": outcome.same,
        "rows": [_row(row) for row in outcome.rows],
        "controls": [control._asdict() for control in outcome.controls],
        "not judged": outcome.unseen,
    }


def _row(row: Row) -> dict[str, object]:
    verdict = row.verdict
    return {
        "trace": row.name,
        "vcpus": row.trace.header.vcpus,
        "maxphyaddr": row.trace.header.maxphyaddr,
        "quirk": row.quirk,
        "events": len(row.trace.events),
        "refused": verdict.refused,
        "calls": verdict.calls,
        "requests": verdict.requests,
        "differences": [each._asdict() for each in verdict.differences],
    }


# -- one run on this host


def print_run(
    console: Console,
    name: str,
    record: Record,
    policy: Policy,
    verdict: Verdict,
    rows: Sequence[Beside],
    *,
    walks: bool,
) -> None:
    """Print the events that made calls or requests, then what the run found."""
    columns = ["event", "what", "the kernel's calls", f"requests of {policy.name}", "us", "same"]
    numbers = {"event", "us"}
    if walks:
        columns += ["leaves", "visits"]
        numbers |= {"leaves", "visits"}
    cells = [_event(row)[: len(columns)] for row in rows]
    text.print_table(console, columns, cells, title=name, numbers=frozenset(numbers))
    for each in verdict.differences:
        text.say(console, f"DIFFERENT: {each}")
    text.say(console, said(record, policy, verdict, rows))


def _event(row: Beside) -> list[object]:
    real = " ".join(f"[{call.start:#x}, {call.end:#x})" for call in row.calls)
    return [
        row.number,
        format_event(row.event),
        real or "none",
        "none" if row.ask is None else shown(row.ask[1]),
        round(1e6 * sum(call.seconds for call in row.calls)),
        "no" if row.difference else "yes",
        sum(call.leaves for call in row.calls),
        sum(call.visits for call in row.calls),
    ]


def said(record: Record, policy: Policy, verdict: Verdict, rows: Sequence[Beside]) -> str:
    """Return what a run found, in a few sentences."""
    times = sorted(call.seconds for row in rows for call in row.calls)
    took = ""
    if times:
        took = (
            f" One call took {1e6 * times[len(times) // 2]:,.0f} us in the middle, "
            f"{1e6 * times[-1]:,.0f} us at most (measured)."
        )
    return (
        f"Linux {record.kernel}, {record.second_stage}, DMA that does not snoop: "
        f"{verdict.calls:,} calls of the kernel, {verdict.requests:,} requests of {policy.name}, "
        f"{len(verdict.differences):,} differences; {verdict.refused:,} events were refused. "
        f"{'Guest memory is not intact.' if record.lost else 'Guest memory is intact.'}{took}"
    )


def run_data(
    name: str, record: Record, policy: Policy, verdict: Verdict, rows: Sequence[Beside]
) -> dict[str, object]:
    """Return a run as JSON's types; times are in seconds."""
    return {
        "trace": name,
        "policy": policy.name,
        "host": {
            "kernel": record.kernel,
            "second stage": record.second_stage,
            "maxphyaddr": record.maxphyaddr,
            "coherent": record.coherent,
        },
        "calls": verdict.calls,
        "requests": verdict.requests,
        "refused": verdict.refused,
        "lost": record.lost,
        "differences": [each._asdict() for each in verdict.differences],
        "events": [
            {
                "event": row.number,
                "what": format_event(row.event),
                "calls": [_call(call) for call in row.calls],
                "request": None if row.ask is None else [list(part) for part in row.ask[1]],
                "same": row.difference is None,
            }
            for row in rows
        ],
    }


def _call(call: Call) -> dict[str, object]:
    return {key: value for key, value in call._asdict().items() if key != "event"}


class Storms(NamedTuple):
    """The same storm in a real kernel and on threads."""

    protocol: str
    kernel: Storm
    threads: Mapping[str, object] | None
    """What the same C counted on as many threads, if it ran."""


def print_storms(console: Console, found: Sequence[Storms], zap_ns: int) -> None:
    """Print what storms showed; ``zap_ns`` is what a zap took on threads."""
    columns = ("protocol", "vCPUs", "requests", "zaps", "shared", "lost", "zaps on threads")
    cells = [
        (name, *kernel[: len(columns) - 2], threads["zaps"] if threads else None)
        for name, kernel, threads in found
    ]
    text.print_table(console, columns, cells, numbers=frozenset(columns[1:]))
    text.say(
        console,
        f"Counted from the trace of Linux {found[0].kernel.kernel}. shared: requests without a zap "
        "of their own; lost: requests that returned although no zap that began after them had "
        f"ended. On threads a zap sleeps {zap_ns:,} ns.",
    )
    for name, kernel, _ in found:
        if kernel.first_lost:
            text.say(console, f"The first one that {name} lost:")
        for line in kernel.first_lost:
            text.say(console, f"  {line}")


def storm_data(found: Storms) -> dict[str, object]:
    """Return a storm as JSON's types."""
    return {
        "protocol": found.protocol,
        **found.kernel._asdict(),
        "threads": found.threads,
    }
