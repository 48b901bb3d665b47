"""The progress display: one line on standard error, only if that is a terminal."""

import sys
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

_REFRESH = 8


class Progress:
    """Counters that the recorder sets, and their display. A context manager."""

    def __init__(self, vcpus: int) -> None:
        """``vcpus`` is how many the guest has."""
        self.phase = "starting QEMU"
        self.events = 0
        self.stops = 0
        self.sites = 0
        self.seen: set[int] = set()
        self.last_line = ""
        self._vcpus = vcpus
        self._start = monotonic()
        console = Console(stderr=True)
        self._live = (
            Live(
                console=console,
                refresh_per_second=_REFRESH,
                get_renderable=self._render,
                transient=True,
            )
            if sys.stderr is not None and sys.stderr.isatty()
            else None
        )

    def _render(self) -> Text:
        line = (
            f"{monotonic() - self._start:4.0f} s  {self.phase}  "
            f"{self.sites} instructions  {self.events} events  "
            f"{len(self.seen)}/{self._vcpus} vCPUs  {self.stops} stops"
        )
        return Text(f"{line}  {self.last_line}", overflow="ellipsis", no_wrap=True)

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
