"""``mmu_lock``, queue-fair, and the walks under it: a fluid model, exact between changes of rate.

Held for write, a walk that finds somebody queueing yields after each side step (domain of
``tdp_mmu_iter_cond_resched``): it flushes what it has cleared, passes the lock on, queues again and
goes down from the root. So k walks that contend advance in turns, one entry each, and all get
through at the same rate: what one of them has left is a number of visits, and a common clock of
visits says when it is done. The rate changes only when a walk or a faulting vCPU comes or goes.

Page faults that find an invalidation in progress are retried until none is; each attempt queues for
``mmu_lock`` as a reader. With m vCPUs at it, one attempt comes every ``retry / m`` cycles.
"""

import heapq
import math
from functools import lru_cache
from typing import Any, NamedTuple

from mtrrzap.simulator.cost_model import Costs
from mtrrzap.simulator.events import Loop
from mtrrzap.simulator.footprint import WalkWork


@lru_cache(maxsize=4096)
def step(costs: Costs, walks: int, faulting: int, levels: int) -> float:
    """Return the cycles in which each of ``walks`` contending walks visits one entry.

    A closed queue: k walks that always want the lock, m vCPUs that come back ``retry`` cycles after
    each attempt, exponentially distributed. ``tests/helpers/naive_mmu_lock.py`` runs each attempt.
    """
    if walks > 1:
        return _turn(costs, walks, faulting, levels)
    return _alone(costs, faulting, levels) if faulting else costs.visit


def _turn(costs: Costs, walks: int, faulting: int, levels: int) -> float:
    """Return the cycles T of one round if every check finds somebody queueing."""
    # In a round each of the k walks visits one entry, goes down from the root again (levels more
    # entries), and passes the lock once. Each of the m vCPUs spends a round in the queue, then
    # retry cycles away from it, so m T / (retry + T) attempts are served in a round:
    #   T = own + turn m T / (retry + T),  own = k ((1 + levels) visit + turn)
    # which is T^2 + 2 half T - own retry = 0; T is its positive root.
    own = walks * ((1 + levels) * costs.visit + costs.turn)
    half = (costs.retry - own - costs.turn * faulting) / 2
    return math.sqrt(half * half + own * costs.retry) - half


def _alone(costs: Costs, faulting: int, levels: int) -> float:
    """Return the cycles of a visit of one walk against m faulting vCPUs."""
    # A check finds nobody unless an attempt came since the check before: unlikely after a visit
    # alone, likely after a yield, which takes long. So there are two states: calm, the chance that
    # a check after a visit finds somebody, and again, the chance after a yield. In equilibrium the
    # share of checks that find somebody is  yields = (1 - yields) calm + yields again.
    # They hang together with the mean number served in one yield, batch, and how long an attempt
    # waits; so all is iterated, each time halfway, to a fixed point (40 times are plenty).
    visit, turn, retry = costs.visit, costs.turn, costs.retry
    calm = 1 - math.exp(-faulting * visit / retry)
    batch, cycles = 1.0, visit
    for _ in range(40):
        # A yield: a visit, the way down again, a turn for each that was served and its own.
        busy = (1 + levels) * visit + turn * (1 + batch)
        # Meanwhile m vCPUs come once in retry cycles, but the batch's only after they were served:
        # the i-th was in the queue for i turns, 1 + ... + batch in sum.
        again = 1 - math.exp(-(faulting * busy - turn * batch * (batch + 1) / 2) / retry)
        yields = calm / (calm + 1 - again)
        cycles = visit + yields * (busy - visit)
        # The wait of an attempt: half of the turns of its batch, and half of what a yield adds.
        wait = (turn * (batch + 1) + (busy - visit) * yields) / 2
        # m attempts each retry + wait cycles, divided among the yields of that time.
        batch = (batch + max(1.0, faulting * cycles / (retry + wait) / yields)) / 2
    return cycles


class _Walker(NamedTuple):
    """One walk under way; a heap of these has the first to be done on top."""

    end: float
    """Where on the common clock of visits it is done."""
    number: int
    what: Any
    began: float
    """Cycles."""


class Walks:
    """The walks that hold or want ``mmu_lock`` for write; keeps the loop's event that moves."""

    def __init__(self, costs: Costs, loop: Loop) -> None:
        self._costs, self._loop = costs, loop
        self._clock = 0.0  # visits that each walk has made
        self._at = 0.0  # the cycle for which that holds
        self._rate = costs.visit  # cycles a visit
        self.under_way: list[_Walker] = []
        """A heap. Only ``begin`` and ``end`` may change it."""
        self._marks: list[tuple[float, int, Any]] = []  # a heap, too
        self._number = 0
        self._odds = 0.0
        self._faulting = 0
        self._levels = 4

    def begin(self, what: Any, work: WalkWork) -> None:
        """Begin a walk."""
        self._advance()
        self._levels = work.levels
        self._number += 1
        walker = _Walker(self._clock + work.visits, self._number, what, self._loop.now)
        heapq.heappush(self.under_way, walker)
        self._set_rate()

    def mark(self, visits: int, what: Any) -> None:
        """Have ``passed`` return ``what`` when the walk just begun has made so many visits."""
        self._number += 1
        heapq.heappush(self._marks, (self._clock + visits, self._number, what))
        self._set_due()

    def contend(self, odds: float, vcpus: int) -> None:
        """Set how many vCPUs fault, and the chance that they do; otherwise nobody does."""
        if (odds, vcpus) != (self._odds, self._faulting):
            self._advance()
            self._odds, self._faulting = odds, vcpus
            self._set_rate()

    def passed(self) -> Any:
        """Remove the mark that is passed now and return it; None: a walk is done first."""
        if not self._marks or self._marks[0][0] > self.under_way[0].end:
            return None
        self._advance()
        what = heapq.heappop(self._marks)[2]
        self._set_due()
        return what

    def end(self) -> tuple[Any, float]:
        """Remove the walk that is done now; return it, and the cycle at which it began."""
        self._advance()
        walker = heapq.heappop(self.under_way)
        self._set_rate()
        return walker.what, walker.began

    def _advance(self) -> None:
        now = self._loop.now
        if self.under_way:
            self._clock += (now - self._at) / self._rate
        self._at = now

    def _set_rate(self) -> None:
        walks = len(self.under_way)
        rate = step(self._costs, walks, self._faulting, self._levels) if walks else 0.0
        if walks < 2:  # somebody faults or nobody does: the mean of both
            rate = self._odds * rate + (1 - self._odds) * self._costs.visit
        self._rate = rate
        self._set_due()

    def _set_due(self) -> None:
        if not self.under_way:
            self._loop.moving = math.inf
            return
        until = self.under_way[0].end
        if self._marks and self._marks[0][0] < until:
            until = self._marks[0][0]
        self._loop.moving = self._at + (until - self._clock) * self._rate
