"""``mmu_lock``, queue-fair, and the walks under it: a fluid model, exact between changes of rate.

Held for write, a walk that finds somebody queueing yields after each side step (domain of
``tdp_mmu_iter_cond_resched``): it flushes what it has cleared, passes the lock on, queues again and
goes down from the root. So k walks that contend advance in turns, one entry each, and walks get
through at the same rate: what one of them has left is a number of visits, and a common clock of
visits says when it is done. The rate changes only when a walk or a faulting vCPU comes or goes.

Page faults that find an invalidation in progress are retried until none is; each attempt queues for
``mmu_lock`` as a reader. With m vCPUs at it, one attempt comes every ``retry / m`` cycles.
"""

import heapq
import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache

from mtrrzap.simulator.costs import Costs


@lru_cache(maxsize=4096)
def step(costs: Costs, walks: int, faulting: int, levels: int) -> float:
    """Return the cycles in which each of ``walks`` contending walks visits one entry.

    A closed queue: k walks that always want the lock, m vCPUs that come back ``retry`` cycles after
    each attempt, exponentially distributed. ``tests/naive_mmu_lock.py`` runs every attempt.
    """
    if walks > 1:
        return _turn(costs, walks, faulting, levels)
    return _alone(costs, faulting, levels) if faulting else costs.visit


def _turn(costs: Costs, walks: int, faulting: int, levels: int) -> float:
    """Return the cycles of one turn if every check finds somebody queueing.

    All walks take a turn of one entry each; of the m vCPUs, m T / (retry + T) queue in between,
    since whoever queues waits for one turn. T is the positive root.
    """
    own = walks * ((1 + levels) * costs.visit + costs.turn)
    half = (costs.retry - own - costs.turn * faulting) / 2
    return math.sqrt(half * half + own * costs.retry) - half


def _alone(costs: Costs, faulting: int, levels: int) -> float:
    """Return the cycles of a visit of one walk against m faulting vCPUs.

    A check finds nobody unless an attempt came since the check before: after a visit alone that is
    unlikely, after a yield, which takes long, it is likely. So there are two states; of the checks
    a share ``yields`` finds somebody, ``batch`` of them in the mean.
    """
    visit, turn, retry = costs.visit, costs.turn, costs.retry
    calm = 1 - math.exp(-faulting * visit / retry)
    batch, cycles = 1.0, visit
    for _ in range(40):
        busy = (1 + levels) * visit + turn * (1 + batch)
        again = 1 - math.exp(-(faulting * busy - turn * batch * (batch + 1) / 2) / retry)
        yields = calm / (calm + 1 - again)
        cycles = visit + yields * (busy - visit)
        wait = (turn * (batch + 1) + (busy - visit) * yields) / 2
        batch = (batch + max(1.0, faulting * cycles / (retry + wait) / yields)) / 2
    return cycles


@dataclass(slots=True)
class Walker:
    """One walk under way."""

    vcpu: int
    end: float
    """Where on the common clock of visits it is done."""
    began: float


class Walks:
    """The walks that hold or want ``mmu_lock`` for write."""

    def __init__(self, costs: Costs) -> None:
        """Nobody walks."""
        self._costs = costs
        self._clock = 0.0  # visits that each walk has made
        self._at = 0.0
        self._rate = costs.visit  # cycles a visit
        self.under_way: list[tuple[float, int, Walker]] = []
        """A heap: who is done first comes first. To be looked at only."""
        self._marks: list[tuple[float, int, Hashable]] = []  # a heap, too
        self.due = math.inf
        """When the next mark is passed or walk done if nothing changes; inf: nobody walks."""
        self._number = 0
        self._odds = 0.0
        self._faulting = 0
        self._levels = 4

    def begin(self, now: float, vcpu: int, visits: int, levels: int) -> None:
        """Begin a walk."""
        self._advance(now)
        self._levels = levels
        self._number += 1
        walker = Walker(vcpu, self._clock + visits, now)
        heapq.heappush(self.under_way, (walker.end, self._number, walker))
        self._set_rate()

    def mark(self, visits: int, what: Hashable) -> None:
        """Have ``passed`` tell of the walk that has just begun, when it has made so many visits."""
        self._number += 1
        heapq.heappush(self._marks, (self._clock + visits, self._number, what))
        self._set_due()

    def contend(self, now: float, odds: float, vcpus: int) -> None:
        """Say how many vCPUs fault, with what chance: else nobody does."""
        if (odds, vcpus) != (self._odds, self._faulting):
            self._advance(now)
            self._odds, self._faulting = odds, vcpus
            self._set_rate()

    def passed(self, now: float) -> Hashable | None:
        """Take off the mark that is passed now; None: a walk is done first."""
        if not self._marks or self._marks[0][0] > self.under_way[0][0]:
            return None
        self._advance(now)
        what = heapq.heappop(self._marks)[2]
        self._set_due()
        return what

    def end(self, now: float) -> Walker:
        """Take the walk off that is done now, and return it."""
        self._advance(now)
        _, _, walker = heapq.heappop(self.under_way)
        self._set_rate()
        return walker

    def _advance(self, now: float) -> None:
        if self.under_way:
            self._clock += (now - self._at) / self._rate
        self._at = now

    def _set_rate(self) -> None:
        walks = len(self.under_way)
        contended = step(self._costs, walks, self._faulting, self._levels) if walks else 0.0
        if walks < 2:
            contended = self._odds * contended + (1 - self._odds) * self._costs.visit
        self._rate = contended
        self._set_due()

    def _set_due(self) -> None:
        if not self.under_way:
            self.due = math.inf
            return
        until = self.under_way[0][0]
        if self._marks and self._marks[0][0] < until:
            until = self._marks[0][0]
        self.due = self._at + (until - self._clock) * self._rate
