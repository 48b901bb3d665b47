"""One line on standard error that says how far something is, only if that is a terminal."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

_REFRESH = 8
"""Times a second."""


class StatusLine:
    """A context manager, within which the line is shown; then it is wiped."""

    def __init__(self, render: Callable[[], Text]) -> None:
        """``render`` makes the line as it is now; it is called by another thread."""
        shown = sys.stderr is not None and sys.stderr.isatty()
        self._live = (
            Live(
                console=Console(stderr=True),
                refresh_per_second=_REFRESH,
                get_renderable=render,
                transient=True,
            )
            if shown
            else None
        )

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
