"""How far each vCPU is, on one line of standard error, if that is a terminal."""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mtrrzap.engine.live.run import Case

_BARS = "▁▂▃▄▅▆▇█"


class LiveProgress:
    """A bar for each vCPU. A context manager."""

    def __init__(self, events: Sequence[int], repeat: int) -> None:
        """``events``: how many each vCPU has; ``repeat``: how many runs each policy."""
        self._events, self._repeat = events, repeat
        self._text = Text("starting")
        shown = sys.stderr is not None and sys.stderr.isatty()
        self._live = (
            Live(
                console=Console(stderr=True),
                refresh_per_second=8,
                get_renderable=lambda: self._text,
                transient=True,
            )
            if shown
            else None
        )

    def show(self, case: Case, number: int, done: list[int]) -> None:
        """Take the events that each vCPU has behind it."""
        self._text = Text(line(case.name, number, self._repeat, done, self._events))

    def __enter__(self) -> Self:
        """Show it."""
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Wipe it."""
        if self._live:
            self._live.__exit__(kind, exc, tb)


def line(name: str, number: int, repeat: int, done: Sequence[int], events: Sequence[int]) -> str:
    """Return ``review  run 2 of 3  ▃▃█▁  310 of 800 events``."""
    bars = "".join(
        _BARS[-1 if d >= all_ else d * (len(_BARS) - 1) // all_]
        for d, all_ in zip(done, events, strict=True)
    )
    return f"{name}  run {number + 1} of {repeat}  {bars}  {sum(done)} of {sum(events)} events"
