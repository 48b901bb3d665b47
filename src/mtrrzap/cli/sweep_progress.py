"""The progress line of a sweep: cells done, rate, time left, failures."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable

from mtrrzap.cli.output import note
from mtrrzap.sweep.run import State

OFTEN, SELDOM = 0.25, 30.0
"""Seconds between two lines on a terminal, where one replaces the other, and in a file."""
WINDOW = 30.0
"""Seconds over which the rate is taken: cells of one grid differ in size."""


class Line:
    """Writes progress on standard error."""

    def __init__(self, workers: Callable[[], str], *, quiet: bool) -> None:
        """``workers`` says who works."""
        self._workers = workers
        self._quiet = quiet
        self._tty = sys.stderr is not None and sys.stderr.isatty()
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._last = time.monotonic() if not self._tty else 0.0

    def tell(self, state: State) -> None:
        """Write a line if it is time for one."""
        now = time.monotonic()
        if self._quiet or now - self._last < (OFTEN if self._tty else SELDOM):
            return
        self._last = now
        self._seen.append((now, state.new))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        then, before = self._seen[0]
        text = said(state, (state.new - before) / max(now - then, 1e-9), self._workers())
        if self._tty:
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()
        else:
            note(text)

    def end(self) -> None:
        """Leave the line."""
        if self._tty and not self._quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def said(state: State, rate: float, workers: str) -> str:
    """Return the line: ``rate`` is in cells a second."""
    counts = state.counts
    parts = [f"{counts.rows + state.dropped:,} of {state.cells:,} cells"]
    if rate > 0:
        left = (state.cells - counts.rows - state.dropped) / rate
        parts += [f"{rate:,.3g}/s", f"about {duration(left)} left"]
    parts.append(f"{counts.failed:,} failed")
    if counts.refused:
        parts.append(f"{counts.refused:,} refused")
    if counts.violated:
        parts.append(f"{counts.violated:,} violated")
    return ", ".join([*parts, workers])


def duration(seconds: float) -> str:
    """Return a time in its two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    at = next(i for i, (_, size) in enumerate(units) if seconds >= size)
    (big, size), (small, fraction) = units[at], units[at + 1]
    whole, rest = divmod(int(seconds), size)
    return f"{whole} {big} {rest // fraction} {small}"
