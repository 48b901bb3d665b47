"""A vCPU with requests to make in a phase, and what its request under way has cost so far."""

from collections import deque
from enum import IntEnum

from mtrrzap.gfn import Range
from mtrrzap.kvm.replay import Request
from mtrrzap.protocol import Steps
from mtrrzap.simulator.figures import Spent, Stretch

Turn = tuple[float, Request]
"""Cycles of guest code before a request, and the request."""


class Where(IntEnum):
    """Where an actor is."""

    ASLEEP = 0
    """It has yet to set off, or to be woken, in this phase."""
    FAULTING = 1
    ON_ITS_WAY = 2
    INSIDE = 3
    """Out of the guest, in a request."""
    DONE = 4


class Actor:
    """A vCPU with requests to make in this phase."""

    __slots__ = (
        *("begin", "fresh", "left", "losses", "own", "page", "pages", "since", "sleeps", "spent"),
        *("starting", "steps", "stretches", "turns", "vcpu", "waited", "walked", "where", "zaps"),
    )

    def __init__(self, vcpu: int, turns: list[Turn], *, sleeps: bool) -> None:
        """``turns`` are its requests in order; ``sleeps``: it halts after the last one."""
        self.vcpu = vcpu
        self.turns = deque(turns)
        self.sleeps = sleeps
        self.where = Where.ASLEEP
        self.losses = 0
        """Losses, of what vCPUs use, that it has noticed."""
        self.page = self.pages = self.own = 0
        """The next page that it lacks, of the ``pages`` that all use; how many of its own."""
        self.left = 0.0
        """Cycles of guest code from there to its next request."""
        self.fresh = False
        """It was woken, and has made no request since."""
        self.starting = False
        """It has yet to get the frame that its SIPI starts at."""
        self.steps: Steps | None = None
        self.begin = self.since = 0.0
        """When the request began, and its present wait or zap."""
        self.spent = Spent()
        self.waited: int | None = None
        self.zaps = 0
        self.walked = Range(0, 0)
        self.stretches: list[Stretch] = []

    def waits_no_more(self, now: float, by: int) -> None:
        """End a wait, by an operation of another vCPU."""
        self.spent = self.spent._replace(waiting=self.spent.waiting + (now - self.since))
        self.waited = by
        self.stretches.append(Stretch(self.since, now, None, by))

    def spends(self, *, walking: float, yielding: float, flushing: float) -> None:
        """Add the cycles of a zap."""
        spent = Spent(walking=walking, yielding=yielding, flushing=flushing)
        self.spent = self.spent.plus(spent)
