"""Verdicts as a table, and as JSON."""

import textwrap
from typing import Any

from mtrrzap.checker.check import Verdict
from mtrrzap.checker.schedule import written

WIDTH = 100
_NAME = 24
_BELOW = " " * 4
_NARROW = 24
_WORDS = 3
"""Columns of words, which come first; those of numbers are left out from the right."""
_HEADS = ("protocol", "property", "verdict", "states", "transitions", "time", "")


def table(results: list[tuple[str, list[Verdict]]], width: int = WIDTH) -> str:
    """Render one row for each protocol and property, in at most ``width`` columns.

    A name too long for its column has a line of its own. A row without a configuration uses the
    one above. Where the numbers do not fit, their columns are left out, and named in the last line.
    """
    rows: list[tuple[str, ...]] = [_HEADS]
    for name, verdicts in results:
        configuration = ""
        for verdict in verdicts:
            rows.append(_row(name, verdict, named=verdict.configuration != configuration))
            name, configuration = "", verdict.configuration
    short = [each if len(each) <= _NAME else "" for each, *_ in rows]
    widths = [max(map(len, short))]
    widths += [max(len(row[i]) for row in rows) for i in range(1, len(_HEADS) - 1)]
    kept = list(range(len(widths)))
    while len(kept) > _WORDS and sum(widths[i] + 2 for i in kept) - 2 > width:
        kept.pop()
    lines = []
    for number, (name, row) in enumerate(zip(short, rows, strict=True)):
        if row[0] != name:
            lines += textwrap.wrap(row[0], width)
        cells = (name, *row[1:])
        shown = (
            cells[i].rjust(widths[i]) if i >= _WORDS else cells[i].ljust(widths[i]) for i in kept
        )
        lines += _with_detail("  ".join(shown), row[-1], width)
        if number == 0:
            lines.append("  ".join("-" * widths[i] for i in kept))
    if left_out := ", ".join(_HEADS[len(kept) : -1]):
        lines += textwrap.wrap(f"Left out; a wider terminal or a pipe shows: {left_out}.", width)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _with_detail(row: str, detail: str, width: int) -> list[str]:
    """Put the detail into the last column; below the row, if that column is too narrow."""
    if not detail:
        return [row]
    if width - len(row) - 2 < _NARROW:
        return [row, *textwrap.wrap(detail, width, initial_indent=_BELOW, subsequent_indent=_BELOW)]
    first, *more = textwrap.wrap(detail, width - len(row) - 2)
    return [f"{row}  {first}", *(" " * (len(row) + 2) + line for line in more)]


def _row(name: str, verdict: Verdict, *, named: bool) -> tuple[str, ...]:
    """Return the cells; the configuration only if it differs from that of the row above."""
    configuration = verdict.configuration if named else ""
    detail = verdict.detail
    return (
        name,
        verdict.prop,
        verdict.verdict,
        f"{verdict.states:,}",
        f"{verdict.transitions:,}",
        f"{verdict.seconds:.2f} s",
        f"{detail} ({configuration})" if detail and configuration else detail or configuration,
    )


def as_json(results: list[tuple[str, list[Verdict]]]) -> list[dict[str, Any]]:
    """Return the verdicts as plain data; a counterexample is its schedule file, as lines."""
    return [
        {
            "protocol": name,
            "property": verdict.prop,
            "verdict": verdict.verdict,
            "detail": verdict.detail,
            "world": verdict.configuration,
            "states": verdict.states,
            "transitions": verdict.transitions,
            "depth": verdict.depth,
            "seconds": round(verdict.seconds, 4),
            "search_seconds": round(verdict.search_seconds, 5),
            "learning_seconds": round(verdict.learning_seconds, 5),
            "bytes": verdict.bytes,
            "engine": verdict.engine,
            "work": _work(verdict),
            "schedule": written(verdict.counterexample, name).splitlines()
            if verdict.counterexample
            else None,
        }
        for name, verdicts in results
        for verdict in verdicts
    ]


def _work(verdict: Verdict) -> dict[str, Any] | None:
    found = verdict.measured
    if found is None:
        return None
    return {
        "zaps": {"best": found.zaps.best, "worst": found.zaps.worst, "needed": found.needed_zaps},
        "frames": {
            "best": found.frames.best,
            "worst": found.frames.worst,
            "needed": found.needed_frames,
        },
        "waiting": {"worst": found.waiting},
    }
