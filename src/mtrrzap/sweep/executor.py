"""How cells come to workers: the few methods that an executor has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mtrrzap.sweep.work import Ran


@dataclass(frozen=True)
class Outcome:
    """What became of a task. ``ran`` may be shorter than ``numbers``: the rest was not begun.

    ``ran`` is None if the worker died with it; which of the cells it was at is not known.
    """

    lane: int
    numbers: tuple[int, ...]
    ran: list[Ran] | None
    worker: str


class Executor(Protocol):
    """A pool of workers, each of which has one task or none."""

    def free(self) -> Sequence[int]:
        """Return the lanes that can take a task now. A lane is a worker where that can be."""

    def submit(self, lane: int, numbers: tuple[int, ...]) -> None:
        """Hand a task over to a free lane."""

    def outcomes(self, timeout: float) -> list[Outcome]:
        """Return what has ended, waiting for at most so many seconds."""

    def says(self) -> str:
        """Return a few words on the workers for the progress line."""

    def close(self) -> None:
        """End the workers, whatever they do."""
