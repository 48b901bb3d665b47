"""What a search found, and how far it got."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple


class Choice(NamedTuple):
    """One step of a schedule: which vCPU, by which of its alternatives."""

    vcpu: int
    choice: int


Schedule = tuple[Choice, ...]


@dataclass(frozen=True)
class Limits:
    """When to stop a search that has not ended by itself. None: never."""

    states: int | None = None
    seconds: float | None = None
    bytes: int | None = None
    began: float | None = None
    """When the seconds began to count, by ``perf_counter()``; None: when the search began."""

    def over(self, states: int, started: float, taken: int = 0) -> str | None:
        """Say in words which limit is reached: of states, of seconds, of ``taken`` bytes."""
        if self.states is not None and states >= self.states:
            return f"limit of {self.states:,} states"
        return self.late(started) or self.big(taken)

    def late(self, started: float) -> str | None:
        """Say so if the time is up, for what ``started`` then unless they have ``began``."""
        began = started if self.began is None else self.began
        if self.seconds is not None and time.perf_counter() - began >= self.seconds:
            return f"limit of {self.seconds:g} s"
        return None

    def big(self, taken: int) -> str | None:
        """Say so if that many bytes are too many."""
        if self.bytes is not None and taken > self.bytes:
            return f"limit of {self.bytes / 1e9:.1f} GB of memory"
        return None


INTERRUPTED = "interrupted"
"""Why a search stopped that Ctrl-C stopped: the beginning of ``cut``."""


def by_ctrl_c(cut: str | None) -> bool:
    """Say whether that is why a search stopped."""
    return cut is not None and cut.startswith(INTERRUPTED)


@dataclass(frozen=True)
class Found:
    """A violation: the flag of its property, and the shortest schedule that shows it."""

    flag: int
    schedule: Schedule


@dataclass
class Exploration:
    """How a search went.

    ``cut`` says why it stopped early, in words, or is None if it saw every state. ``depth`` is the
    number of steps that the farthest state seen is from the start; ``frontier`` the number of
    states seen but not expanded. ``bytes`` is the memory that the states took.
    """

    states: int = 0
    transitions: int = 0
    depth: int = 0
    frontier: int = 0
    seconds: float = 0.0
    learning: float = 0.0
    bytes: int = 0
    cut: str | None = None
    engine: str = "python"
    violations: dict[int, Found] = field(default_factory=dict)
