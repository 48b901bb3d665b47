"""``mmu_lock`` attempt by attempt: the oracle of ``mtrrzap.simulator.mmu_lock.step``.

A fair queue. A walk that holds the lock visits entries until somebody queues, then goes to the end
of the queue, and down the levels again when it is its turn. A page fault takes the lock, finds the
invalidation in progress, and comes back after an exponentially distributed time.
"""

import heapq
import random

from mtrrzap.simulator import Costs


def cycles_a_visit(
    costs: Costs, walks: int, faulting: int, levels: int, visits: int, seed: int
) -> float:
    """Return the cycles until each walk has made its visits, divided by their number."""
    rng = random.Random(seed)
    away = [(rng.expovariate(1 / costs.retry), number) for number in range(faulting)]
    heapq.heapify(away)
    queue: list[tuple[bool, int]] = [(True, number) for number in range(walks)]
    left, now = dict.fromkeys(range(walks), visits), 0.0
    while left:
        _arrive(queue, away, now)
        walks_on, number = queue.pop(0)
        now += costs.turn
        if not walks_on:
            heapq.heappush(away, (now + rng.expovariate(1 / costs.retry), number))
            continue
        if left[number] < visits:
            now += levels * costs.visit
        while True:
            now += costs.visit
            left[number] -= 1
            if not left[number]:
                del left[number]
                break
            _arrive(queue, away, now)
            if queue:
                queue.append((True, number))
                break
    return now / visits


def _arrive(queue: list[tuple[bool, int]], away: list[tuple[float, int]], now: float) -> None:
    while away and away[0][0] <= now:
        queue.append((False, heapq.heappop(away)[1]))
