"""The progress display: one line on standard error, only if that is a terminal."""

from time import monotonic

from rich.text import Text

from mtrrzap.status_line import StatusLine


class Progress(StatusLine):
    """Counters that the recorder sets, and their display."""

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
        super().__init__(self._render)

    def _render(self) -> Text:
        line = (
            f"{monotonic() - self._start:4.0f} s  {self.phase}  "
            f"{self.sites} instructions  {self.events} events  "
            f"{len(self.seen)}/{self._vcpus} vCPUs  {self.stops} stops"
        )
        return Text(f"{line}  {self.last_line}", overflow="ellipsis", no_wrap=True)
