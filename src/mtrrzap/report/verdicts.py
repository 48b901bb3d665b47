"""Verdicts as a table, and as JSON."""

from __future__ import annotations

from typing import Any

from mtrrzap.engine.check.check import MEASURED, Verdict
from mtrrzap.engine.check.strategies.replay import written

_HEADS = ("protocol", "property", "verdict", "states", "transitions", "time", "")


def table(results: list[tuple[str, list[Verdict]]]) -> str:
    """Render one line for each protocol and property."""
    rows: list[tuple[str, ...]] = [_HEADS]
    for name, verdicts in results:
        for verdict in verdicts:
            rows.append(_row(name, verdict))
            name = ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS))]
    lines = []
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if 3 <= i <= 5 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths[:-1]))
    return "\n".join(lines) + "\n"


def _row(name: str, verdict: Verdict) -> tuple[str, ...]:
    said = "" if verdict.verdict == MEASURED else verdict.verdict
    detail = verdict.detail
    return (
        name,
        verdict.prop,
        said or MEASURED,
        f"{verdict.states:,}",
        f"{verdict.transitions:,}",
        f"{verdict.seconds:.2f} s",
        f"{detail} ({verdict.world})" if detail else verdict.world,
    )


def as_json(results: list[tuple[str, list[Verdict]]]) -> list[dict[str, Any]]:
    """Return the verdicts as plain data; a counterexample is its schedule file, as lines."""
    return [
        {
            "protocol": name,
            "property": verdict.prop,
            "verdict": verdict.verdict,
            "detail": verdict.detail,
            "world": verdict.world,
            "states": verdict.states,
            "transitions": verdict.transitions,
            "depth": verdict.depth,
            "seconds": round(verdict.seconds, 4),
            "search_seconds": round(verdict.search_seconds, 4),
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
