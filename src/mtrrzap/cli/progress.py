"""How far a command is: a line on standard error that a terminal replaces and a file collects.

The library reports progress through plain callbacks; only this module knows the terminal.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import contextmanager, nullcontext
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

from mtrrzap.cli.output import note
from mtrrzap.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mtrrzap.checker.explore import Progress as SearchProgress
    from mtrrzap.guest.record import Progress as Recorded
    from mtrrzap.live.measure import Progress as RunProgress
    from mtrrzap.live.running import RunCase
    from mtrrzap.sweep.driver import SweepState

_BARS = "▁▂▃▄▅▆▇█"
_REFRESH = 8
"""Times a second that the line is drawn."""
SOON = 2.0
"""Seconds after which a command says what it is about on a terminal; most are done before."""
LATER = 10.0
"""The same where standard error is a file, ..."""
SELDOM = 30.0
"""... and the seconds between two lines in it."""
WINDOW = 30.0
"""Seconds over which a sweep's rate is taken: cells of one grid differ in size."""


def on_terminal() -> bool:
    """Tell if standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def status_line(render: Callable[[], str]) -> Iterator[None]:
    """Show a line while the block runs, from ``SOON`` on; another thread calls ``render``."""
    done = Event()
    shown = Thread(target=_show, args=(render, done), daemon=True)
    shown.start()
    try:
        yield
    finally:
        done.set()
        shown.join()


def _show(render: Callable[[], str], done: Event) -> None:
    """Draw the line again and again on a terminal, then wipe it; elsewhere print it seldom."""
    terminal = on_terminal()
    if done.wait(SOON if terminal else LATER):
        return
    if not terminal:
        note(render())
        while not done.wait(SELDOM):
            note(render())
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(
        console=Console(stderr=True),
        refresh_per_second=_REFRESH,
        get_renderable=lambda: Text(printable(render()), overflow="ellipsis", no_wrap=True),
        transient=True,
    ):
        done.wait()


class _Line:
    text = "starting"

    def __call__(self) -> str:
        return self.text

    def set(self, text: str) -> None:
        self.text = text


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show what a command is about and for how long; give the function that takes what is next."""
    line, start = _Line(), monotonic()
    line.set(what)
    with status_line(lambda: f"{monotonic() - start:.0f} s  {line.text}"):
        yield line.set


@contextmanager
def searching() -> Iterator[SearchProgress]:
    """Show how many states ``check`` has seen; give the callback that the search calls."""
    line = _Line()

    def show(states: int, seconds: float, frontier: int) -> None:
        rate = f"{states / seconds:,.0f}/s" if seconds else ""
        line.text = f"{states:,} states {rate} frontier {frontier:,}"

    with status_line(line):
        yield show


@contextmanager
def running(events: Sequence[int], repeat: int) -> Iterator[RunProgress]:
    """Show how far each vCPU of ``run`` is; give the callback that the runs call.

    ``events``: how many each vCPU has; ``repeat``: how many runs each policy has.
    """
    line = _Line()

    def show(case: RunCase, number: int, done: list[int]) -> None:
        line.text = run_line(case.name, number, repeat, done, events)

    with status_line(line):
        yield show


@contextmanager
def comparing(events: int) -> Iterator[Callable[[int], None]]:
    """Show how many events ``kernel compare`` has performed; give the callback that takes it."""
    line = _Line()
    line.text = "the emulated host boots"

    def show(done: int) -> None:
        line.text = f"{done:,} of {events:,} events"

    with status_line(line):
        yield show


def run_line(
    name: str, number: int, repeat: int, done: Sequence[int], events: Sequence[int]
) -> str:
    """Return ``review  run 2 of 3  ▃▃█▁  310 of 800 events``."""
    bars = "".join(
        _BARS[-1 if d >= all_ else d * (len(_BARS) - 1) // all_]
        for d, all_ in zip(done, events, strict=True)
    )
    return f"{name}  run {number + 1} of {repeat}  {bars}  {sum(done)} of {sum(events)} events"


@contextmanager
def recording(vcpus: int) -> Iterator[Recorded]:
    """Show the counters of ``record``; give them to the recorder, which sets them."""
    from mtrrzap.guest.record import Progress as Recorded

    counters, start = Recorded(), monotonic()

    def line() -> str:
        return (
            f"{monotonic() - start:4.0f} s  {counters.phase}  "
            f"{counters.sites} instructions  {counters.events} events  "
            f"{len(counters.seen)}/{vcpus} vCPUs  {counters.stops} stops  {counters.last_line}"
        )

    with status_line(line):
        yield counters


@contextmanager
def sweeping(workers: Callable[[], str], *, quiet: bool) -> Iterator[Callable[[SweepState], None]]:
    """Show how many cells of a sweep are done; give the callback that the sweep calls.

    ``workers`` says who works.
    """
    line = _Line()
    seen = deque([(monotonic(), 0)])
    last = seen[0][0]

    def show(state: SweepState) -> None:
        nonlocal last
        now = monotonic()
        if quiet or now - last < 1 / _REFRESH:
            return
        last = now
        seen.append((now, state.new))
        while len(seen) > 2 and now - seen[0][0] > WINDOW:
            seen.popleft()
        then, before = seen[0]
        line.text = sweep_line(state, (state.new - before) / max(now - then, 1e-9), workers())

    with nullcontext() if quiet else status_line(line):
        yield show


def sweep_line(state: SweepState, rate: float, workers: str) -> str:
    """Return the line of a sweep: ``rate`` is in cells a second."""
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
