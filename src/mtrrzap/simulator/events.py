"""The event loop: a clock in cycles, a heap of events, and the one event that moves.

Ties are broken by (time, priority, number), so that a run is deterministic. Everything between two
events is a closed form; the loop never steps through time.
"""

import heapq
import math
from collections.abc import Callable
from typing import Any

from mtrrzap.simulator.actor import Actor

ZAP, OPERATION, GUEST = range(3)
"""Priorities at the same cycle: zaps end first, because that lets page faults succeed; then
operations of the protocol complete; then vCPUs in the guest act."""


class Loop:
    """The clock, and what happens next."""

    __slots__ = ("_number", "heap", "moving", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.heap: list[tuple[float, int, int, Actor, Any]] = []
        """Events as (time, priority, number, actor, what). Only ``at`` may change it."""
        self.moving = math.inf
        """When a walk next ends or passes a mark. Every change of rate moves it, so it is kept
        beside the heap; inf: nobody walks."""
        self._number = 0

    def at(self, delay: float, priority: int, actor: Actor, what: Any) -> None:
        """Schedule an event after so many cycles."""
        self._number += 1
        heapq.heappush(self.heap, (self.now + delay, priority, self._number, actor, what))

    def run(self, fire: Callable[[Actor, Any], None], moved: Callable[[], None]) -> None:
        """Run until nothing is left; ``moved`` is called for the event that moves."""
        heap = self.heap
        while heap or self.moving < math.inf:
            if heap and heap[0][0] <= self.moving:
                self.now, _, _, actor, what = heapq.heappop(heap)
                fire(actor, what)
            else:
                self.now = max(self.now, self.moving)
                moved()
