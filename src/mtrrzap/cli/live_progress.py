"""How far each vCPU is, on one line of standard error, if that is a terminal."""

from collections.abc import Sequence

from rich.text import Text

from mtrrzap.live.run import Case
from mtrrzap.status_line import StatusLine

_BARS = "▁▂▃▄▅▆▇█"


class LiveProgress(StatusLine):
    """A bar for each vCPU."""

    def __init__(self, events: Sequence[int], repeat: int) -> None:
        """``events``: how many each vCPU has; ``repeat``: how many runs each policy."""
        self._events, self._repeat = events, repeat
        self._text = Text("starting")
        super().__init__(lambda: self._text)

    def show(self, case: Case, number: int, done: list[int]) -> None:
        """Take the events that each vCPU has behind it."""
        self._text = Text(line(case.name, number, self._repeat, done, self._events))


def line(name: str, number: int, repeat: int, done: Sequence[int], events: Sequence[int]) -> str:
    """Return ``review  run 2 of 3  ▃▃█▁  310 of 800 events``."""
    bars = "".join(
        _BARS[-1 if d >= all_ else d * (len(_BARS) - 1) // all_]
        for d, all_ in zip(done, events, strict=True)
    )
    return f"{name}  run {number + 1} of {repeat}  {bars}  {sum(done)} of {sum(events)} events"
