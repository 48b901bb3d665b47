"""What is present: the vCPUs in the guest, the entries that they lack, and who faults during a zap.

vCPUs in the guest are on their way to the next request, faulting entries in, or spinning. One goes
on only with its entries in place. After a zap has taken them, and its TLB was flushed, it needs
some page faults, each of which takes ``retry`` cycles; none succeeds while an invalidation is in
progress (v6.1: whatever the frame). So what a vCPU needs is a length of *free time*.
"""

import math
from collections.abc import Callable, Collection
from enum import Enum
from functools import cache
from random import Random
from typing import NamedTuple

from mtrrzap.gfn import Range
from mtrrzap.kvm.phases import Phase, Stage
from mtrrzap.simulator.actor import Actor, Where
from mtrrzap.simulator.cost_model import Costs
from mtrrzap.simulator.events import GUEST, Loop

UNPAGED_PAGES = 2
"""Pages that a vCPU spins on without paging: its code, and the word that it polls."""
STACK = 1
"""Pages of its own that a woken vCPU needs before its first request, with paging."""
MORE = 2
"""Pages of its own that it needs besides to do more than spin: a stack, and data."""
ALL = 1 << 30
"""More pages than any vCPU uses."""


@cache
def together(vcpus: int) -> float:
    """Return the time of a fault that so many vCPUs need at once, in units of ``retry``.

    An entry serves all once one of them has installed it, and who comes later goes on to the next.
    """
    # The vCPU that installed the page before is the first at the next one; the n - 1 others join it
    # as their own attempts end, each at rate 1: n - (n - 1) exp(-t) are there after t. The first
    # attempt of any of them to end installs the entry, so alive, the chance that it is still
    # lacking, falls at the rate of their number, and the mean time is the integral of alive. It is
    # summed up in steps in which that number is constant, taken from the middle of the step.
    step, time, total, alive = 0.02, 0.01, 0.0, 1.0
    while alive > 1e-9:
        there = vcpus - (vcpus - 1) * math.exp(-time)
        left = alive * math.exp(-there * step)
        total += (alive - left) / there
        alive, time = left, time + step
    return total


class FreeTime:
    """Cycles in which faults could succeed, so far and since each zap."""

    def __init__(self, loop: Loop) -> None:
        self.frozen = False
        """A zap is in progress."""
        self._loop = loop
        self._base = self._since = 0.0  # the free time at the cycle `_since`
        self._zapped: dict[Range, float] = {}

    def settle(self) -> None:
        """Count as if the last zap were long ago."""
        self._zapped.clear()

    def now(self) -> float:
        """Return the free time so far; it stands still while a zap is in progress."""
        return self._base if self.frozen else self._base + self._loop.now - self._since

    def zap_begins(self, r: Range) -> None:
        """Note a zap of a range."""
        self._base, self.frozen = self.now(), True
        self._zapped[r] = self._base

    def zaps_end(self) -> None:
        """Note that no zap is in progress any more."""
        self._since, self.frozen = self._loop.now, False

    def touched(self, r: Range) -> bool:
        """Tell if faults could install entries in a range since a zap of all of it."""
        free = self.now()
        return not any(
            z.start <= r.start and r.end <= z.end and at >= free for z, at in self._zapped.items()
        )


class InGuest(Enum):
    """What happens to an actor in the guest."""

    WOKEN = "it gets its SIPI"
    FAULTED = "one of its attempts at a page fault ends"
    ARRIVES = "it reaches its next request"


_WOKEN, _FAULTED, _ARRIVES = InGuest
_ASLEEP, _FAULTING, _ON_ITS_WAY, _INSIDE, _DONE = Where


class Contention(NamedTuple):
    """vCPUs that fault while a walk goes on."""

    odds: float
    """The chance that there are any."""
    vcpus: int


class Presence:
    """Where each vCPU outside of requests is, and whether it lacks entries."""

    def __init__(self, costs: Costs, loop: Loop) -> None:
        self.running = 0
        """vCPUs that run."""
        self.stage = Stage.NOT_RUN
        self._costs, self._loop = costs, loop
        self._free = FreeTime(loop)
        self._actors = 0
        self._count = [0] * len(Where)  # actors, by where they are
        self._stale = 0  # actors on their way that have not noticed the last loss
        self._parked: list[Actor] = []
        self._losses = 0
        self._ran: dict[int, int] = {}  # losses when a vCPU last went to sleep
        self._random: Callable[[], float] | None = None  # None: times are their means
        self._lost = self._frozen = self._lost_free = self._cleared_free = -math.inf
        self._there = 0  # pages that all use, installed since they were cleared
        self._start_gone = False
        self._chance = 0.0  # that somebody faulted when the first zap in progress began
        self._spinning = 0.0  # the mean number of those that spin that did
        self._passed = False  # the first zap in progress has cleared what vCPUs use

    def settle(self) -> None:
        """Let so much time pass that every vCPU has what it uses."""
        self._free.settle()
        self._lost_free = self._cleared_free = -math.inf
        self._start_gone = False

    def miss(self) -> None:
        """Note that vCPUs that sleep have lost the entries that they use."""
        self._losses += 1

    # -- on the way to a request

    def start(self, phase: Phase, actors: Collection[Actor], source: Random) -> None:
        """Begin a phase with the vCPUs that have requests to make in it."""
        self.stage, self.running = phase.stage, phase.running
        self._random = source.random if phase.concurrent else None
        self._actors = len(actors)
        self._count = [0] * len(Where)
        self._count[_ASLEEP] = self._actors

    def set_off(self, actor: Actor, delay: float, *, woken: bool) -> None:
        """Let an actor begin after so many cycles."""
        if woken:
            self._loop.at(delay, GUEST, actor, _WOKEN)
            return
        actor.losses = self._losses
        if self._lost_free > -math.inf:  # it spun, and has to do more now
            self._lacks_all(actor)
        self._goes(actor, delay + actor.turns[0][0])

    def happens(self, actor: Actor, what: InGuest) -> bool:
        """Have something happen to an actor; tell if it makes its request now."""
        if what is _ARRIVES:
            return self._arrives(actor)
        if what is _WOKEN:
            self._woken(actor)
        else:
            self._faulted(actor)
        return False

    def _woken(self, actor: Actor) -> None:
        actor.fresh = True
        self._lacks_all(actor)
        if self._ran.get(actor.vcpu) == self._losses:
            actor.own = 0
        actor.starting = True
        way = self._costs.wake if self.stage is Stage.FIRMWARE else 0.0
        self._goes(actor, way + actor.turns[0][0])

    def _lacks_all(self, actor: Actor) -> None:
        """Have an actor need all that it uses."""
        actor.losses = self._losses
        actor.page = 0
        if self._paged:
            actor.pages, actor.own = round(self._costs.pages), STACK if actor.fresh else MORE
        elif actor.fresh:  # until its first request, what a SIPI starts needs only code
            actor.pages, actor.own = 1, 0
        else:
            actor.pages, actor.own = UNPAGED_PAGES, MORE

    def _goes(self, actor: Actor, left: float) -> None:
        """Let an actor get what it lacks, and then to its request after so many cycles."""
        actor.left = left
        self._move(actor, _FAULTING)
        self._on(actor)

    def _on(self, actor: Actor) -> None:
        if actor.losses != self._losses:
            self._lacks_all(actor)
        if actor.starting and not self._start_gone:
            actor.starting = False
        if actor.page < actor.pages:
            there = self._present()
            if there > actor.page:
                actor.page = there
        if not (actor.own or actor.starting or actor.page < actor.pages):
            self._move(actor, _ON_ITS_WAY)
            self._loop.at(actor.left, GUEST, actor, _ARRIVES)
        elif self._free.frozen:
            self._parked.append(actor)
        else:
            took = -math.log(1.0 - self._random()) if self._random else 1.0
            self._loop.at(took * self._costs.retry, GUEST, actor, _FAULTED)

    def _faulted(self, actor: Actor) -> None:
        if not self._free.frozen and actor.losses == self._losses:
            if actor.starting:
                actor.starting = self._start_gone = False
            elif actor.page < actor.pages:
                actor.page += 1
                if actor.page > self._there:
                    self._there = actor.page
            else:
                actor.own -= 1
        self._on(actor)

    def _present(self) -> int:
        """Return how many of the pages that all use are there again."""
        if self._cleared_free == -math.inf:
            return ALL
        spin = self._spin
        if spin <= 0:
            return self._there
        # Those that spin install one shared page after the other, also while this vCPU does not.
        each = together(spin) * self._costs.retry
        return max(self._there, int((self._free.now() - self._cleared_free) / each))

    def _arrives(self, actor: Actor) -> bool:
        if actor.losses != self._losses:
            self._stale -= 1
            # It lost its entries `ago` cycles ago and notices only now. In the second half of its
            # exit it was out of the guest already. Otherwise it stood still until its recovery,
            # `late` cycles of free time ago, and has the rest of `ago` still to go.
            ago = self._loop.now - self._lost
            if not self._free.frozen or ago >= self._costs.leave / 2:
                late = self._free.now() - self._lost_free - self._recovery(more=True)
                left = max(0.0, ago - max(0.0, late))
                if late < 0:
                    self._goes(actor, left)
                    return False
                actor.losses = self._losses
                if left > 0:
                    self._loop.at(left, GUEST, actor, _ARRIVES)
                    return False
        self._move(actor, _INSIDE)
        actor.fresh = False
        return True

    def back(self, actor: Actor) -> None:
        """Let an actor go on in the guest after a request."""
        if actor.turns:
            self._goes(actor, actor.turns[0][0])
            return
        self._move(actor, _DONE)
        self.running -= actor.sleeps
        self._ran[actor.vcpu] = self._losses

    def _recovery(self, *, more: bool) -> float:
        """Return the mean free time until a vCPU has back what it spins on, or *more*."""
        # An attempt for the first page; then each further page that all use, shared by those in the
        # guest; then the pages of its own, one attempt each.
        pages = round(self._costs.pages) if self._paged else UNPAGED_PAGES
        faults = 1 + (pages - 1) * together(max(1, self._in_guest)) + (MORE if more else 0)
        return faults * self._costs.retry

    def _move(self, actor: Actor, where: Where) -> None:
        self._count[actor.where] -= 1
        self._count[where] += 1
        actor.where = where

    @property
    def _spin(self) -> int:
        """vCPUs that run and have no request to make any more in this phase."""
        return self.running - self._actors + self._count[_DONE]

    @property
    def _in_guest(self) -> int:
        """vCPUs that run outside of requests."""
        return max(0, self.running - self._count[_INSIDE] - self._count[_ASLEEP])

    @property
    def _paged(self) -> bool:
        return self.stage > Stage.UNPAGED

    # -- zaps

    def touched(self, r: Range) -> bool:
        """Tell if vCPUs run, and could install entries in a range since a zap of all of it."""
        return self._free.touched(r) and self.running > 0

    def zap_begins(self, r: Range, *, first: bool) -> None:
        """Note that a zap begins; ``first``: while none is in progress."""
        if first:
            self._freeze()
        self._free.zap_begins(r)

    def _freeze(self) -> None:
        self._frozen, self._passed = self._loop.now, False
        # A vCPU that spins lacks a page yet with the chance `lacking`. Once the pages that all use
        # are there, each still has the rest of its own attempt to go, exponentially distributed
        # with mean retry. The mean recovery includes one such attempt (its first 1), which is
        # taken off again: exp(-(over / retry + 1)), and certain before that.
        spins = self._spin
        over = self._free.now() - self._lost_free - self._recovery(more=False)
        lacking = math.exp(-max(0.0, over / self._costs.retry + 1))
        # Independent vCPUs: the chance that any lacks a page, and how many do in the mean.
        self._chance = 1.0 - (1.0 - lacking) ** spins if spins > 0 else 0.0
        self._spinning = spins * lacking

    def contention(self, walks: int) -> Contention:
        """Return who faults now, while zaps are in progress; once somebody does, it stays so."""
        sure = self._count[_FAULTING]
        if self._stale and self._free.now() - self._lost_free < self._recovery(more=True):
            sure += self._stale
        if sure or walks > 1:
            self._chance = 1.0
        if self._passed:
            return Contention(self._chance, self._in_guest)
        if not self._chance:
            return Contention(0.0, 0)
        # Of those that spin, the mean number that fault, given that somebody does.
        vcpus = sure + (self._spinning / self._chance if not sure else self._spinning)
        return Contention(self._chance, max(1 if walks < 2 else 0, round(vcpus)))

    def clears(self) -> bool:
        """Note that a walk comes to the entries that vCPUs use; tell if it yields, and so flushes.

        Otherwise vCPUs run on with what is in their TLBs until the walk ends.
        """
        self._passed = True
        self._there, self._cleared_free = 0, self._free.now()
        return self._chance > 0.5

    def clears_start(self) -> None:
        """Note that a walk has cleared the frame that a SIPI starts at."""
        self._start_gone = True

    def lose(self) -> bool:
        """Take the entries in use from the vCPUs in the guest; tell if they had them."""
        self._passed = True
        if self._lost >= self._frozen:
            return False  # since then no fault could succeed
        self._losses += 1
        self._lost, self._lost_free = self._loop.now, self._free.now()
        self._there, self._cleared_free = 0, self._lost_free
        self._stale = self._count[_ON_ITS_WAY]
        return True

    def thaw(self) -> None:
        """Let faults succeed again."""
        self._free.zaps_end()
        parked, self._parked = self._parked, []
        for actor in parked:
            self._on(actor)
