"""A wave of direct zaps, visit by visit and fault by fault: the oracle of ``mtrrzap.simulator``.

vCPUs are woken one after the other, fault in a few pages of their own, go their way, and zap all of
memory, each for itself. It shares no code with the model: ``mmu_lock`` is a queue of vCPUs, a walk
a loop over entries that yields when somebody queues, a fault an attempt that finds the
invalidation in progress or not.
"""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from mtrrzap.simulator import Costs


@dataclass
class Vcpu:
    state: str = "asleep"
    page: int = 0
    """The next of the pages that all use."""
    pages: int = 0
    own: int = 0
    """Pages of its own that it lacks."""
    arrives: float = 0.0
    left: float = 0.0
    begin: float = 0.0
    visited: int = 0
    cleared: bool = False
    starting: bool = False


@dataclass
class Wave:
    costs: Costs
    visits: int
    start: int
    uses: int
    own: int
    """Pages of its own that a vCPU needs when it is woken."""
    again: tuple[int, int]
    """Pages that all use, and of its own, that it needs again after a loss."""
    way: float
    seed: int
    levels: int = 4
    now: float = 0.0
    cycles: float = 0.0
    start_gone: bool = False
    there: int = 0
    """Pages that all use, and that are there again."""
    in_progress: int = 0
    holder: Vcpu | None = None
    queue: deque[Vcpu] = field(default_factory=deque)
    due: list[tuple[float, int, str, Vcpu]] = field(default_factory=list)
    count: int = 0

    def run(self, wakes: list[float]) -> float:
        """Return the cycles of all requests."""
        self.rng = random.Random(self.seed)
        self.vcpus = [Vcpu() for _ in wakes]
        for vcpu, at in zip(self.vcpus, wakes, strict=True):
            self.later(at, "wake", vcpu)
        while self.due:
            self.now, _, what, vcpu = heapq.heappop(self.due)
            getattr(self, what)(vcpu)
        assert all(v.state == "done" for v in self.vcpus)
        return self.cycles

    def later(self, delay: float, what: str, vcpu: Vcpu) -> None:
        self.count += 1
        heapq.heappush(self.due, (self.now + delay, self.count, what, vcpu))

    def wake(self, vcpu: Vcpu) -> None:
        vcpu.starting = self.start_gone
        vcpu.own = self.own
        vcpu.left = self.way
        self.go(vcpu)

    def go(self, vcpu: Vcpu) -> None:
        vcpu.page = max(vcpu.page, self.there)
        vcpu.starting = vcpu.starting and self.start_gone
        if vcpu.starting or vcpu.page < vcpu.pages or vcpu.own:
            vcpu.state = "faulting"
            self.later(self.rng.expovariate(1 / self.costs.retry), "queues", vcpu)
        else:
            vcpu.state = "on its way"
            vcpu.arrives = self.now + vcpu.left
            self.later(vcpu.left, "arrive", vcpu)

    def arrive(self, vcpu: Vcpu) -> None:
        if vcpu.state != "on its way" or abs(vcpu.arrives - self.now) > 1e-6:
            return  # it lost its entries
        vcpu.state, vcpu.begin = "walking", self.now
        self.in_progress += 1
        self.queues(vcpu)

    def queues(self, vcpu: Vcpu) -> None:
        self.queue.append(vcpu)
        if self.holder is None:
            self.grant(queued=False)

    def grant(self, *, queued: bool) -> None:
        self.holder = self.queue.popleft() if self.queue else None
        if self.holder is None:
            return
        if self.holder.state == "walking":
            down = self.levels * self.costs.visit if self.holder.visited else 0.0
            turn = self.costs.turn if queued else 0.0
            self.later(turn + down + self.costs.visit, "visit", self.holder)
        else:
            self.later(self.costs.turn, "tried", self.holder)

    def tried(self, vcpu: Vcpu) -> None:
        if not self.in_progress:
            if vcpu.starting:
                vcpu.starting = self.start_gone = False
            elif vcpu.page < vcpu.pages:
                vcpu.page += 1
                self.there = max(self.there, vcpu.page)
            else:
                vcpu.own -= 1
        self.grant(queued=True)
        self.go(vcpu)

    def visit(self, vcpu: Vcpu) -> None:
        vcpu.visited += 1
        if vcpu.visited > self.start:
            self.start_gone = True
        if vcpu.visited == self.uses + 1:
            vcpu.cleared = True
        if vcpu.visited > self.visits:
            self.lose(vcpu)
            self.done(vcpu)
        elif self.queue:
            self.lose(vcpu)
            self.queue.append(vcpu)
            self.grant(queued=True)
        else:
            self.later(self.costs.visit, "visit", vcpu)

    def lose(self, vcpu: Vcpu) -> None:
        """Flush, if the walk has cleared what vCPUs use."""
        if not vcpu.cleared:
            return
        vcpu.cleared = False
        self.there = 0
        for other in self.vcpus:
            if other.state == "on its way" and other.arrives - self.now > self.costs.leave / 2:
                other.left = other.arrives - self.now
            elif other.state != "faulting":
                continue
            other.page, (other.pages, other.own) = 0, self.again
            if other.state == "on its way":
                self.go(other)

    def done(self, vcpu: Vcpu) -> None:
        vcpu.state = "done"
        self.cycles += self.now + self.costs.handoff - vcpu.begin
        self.in_progress -= 1
        self.grant(queued=True)
