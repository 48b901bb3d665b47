"""What a search found, and how far it got."""

from __future__ import annotations

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
    bytes: int = 0
    cut: str | None = None
    engine: str = "python"
    violations: dict[int, Found] = field(default_factory=dict)
