"""vCPUs outside of requests, by hand: who is held up by a zap, for how long, and who contends."""

import math
import random

import pytest

from helpers.costs import COSTS
from mtrrzap.gfn import Range
from mtrrzap.kvm.phases import Phase
from mtrrzap.kvm.replay import Request, Why
from mtrrzap.simulator import Stage
from mtrrzap.simulator.actor import Actor
from mtrrzap.simulator.arrivals import numbers
from mtrrzap.simulator.guests import Contention, Event, Guests, together

ALL = Range(0, 1 << 34)


class Stub:
    """Guests, and what they want to happen: (time, vCPU, what)."""

    def __init__(
        self,
        actors: int,
        *,
        spinning: int = 0,
        woken: bool = False,
        stage: Stage = Stage.UNPAGED,
    ) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Actor, Event]] = []
        self.guests = Guests(COSTS, self.later)
        request = Request(0, 0, Why.CD_CLEARED, (ALL,))
        self.actors = [Actor(v, [(50.0, request)] * 2, sleeps=woken) for v in range(actors)]
        phase = Phase(first=0, stage=stage, running=actors + spinning)
        self.guests.start(phase, self.actors, numbers(0, 0, 1))  # one stream of events: mean times
        for number, actor in enumerate(self.actors):
            self.guests.set_off(0.0, actor, 1000.0 * number, woken=woken)

    def later(self, delay: float, actor: Actor, what: Event) -> None:
        self.due.append((self.now + delay, actor, what))

    def happen(self) -> tuple[Event, bool]:
        self.due.sort(key=lambda each: each[0])
        self.now, actor, what = self.due.pop(0)
        return what, self.guests.happens(self.now, actor, what)

    def thaw(self, now: float) -> None:
        self.now = now
        self.guests.thaw(now)

    def zap(self) -> None:
        self.guests.freeze(self.now)
        self.guests.free.zap_begins(self.now, ALL)

    @property
    def next(self) -> list[float]:
        return sorted(time for time, _, _ in self.due)


WOKEN, FAULTED = (Event.WOKEN, False), (Event.FAULTED, False)
ASKS, HELD_UP = (Event.ARRIVES, True), (Event.ARRIVES, False)


def test_a_vcpu_with_its_entries_asks_when_its_way_is_done() -> None:
    stub = Stub(1)
    assert stub.happen() == ASKS
    assert stub.now == 50


def test_a_vcpu_that_wakes_too_late_finds_the_frame_of_its_sipi_gone() -> None:
    stub = Stub(2, woken=True)
    assert [stub.happen(), stub.happen()] == [WOKEN, ASKS]
    stub.zap()
    stub.guests.clears_start()
    assert stub.guests.contention(50, 1) == Contention(0.0, 0)
    assert stub.happen() == WOKEN
    assert stub.due == []
    assert stub.guests.contention(1000, 1) == Contention(1.0, 1)
    stub.thaw(5000)
    assert stub.happen() == FAULTED
    assert stub.now == 5000 + COSTS.retry
    assert stub.next == [6000 + 50]


def test_a_vcpu_that_wakes_in_time_does_not_need_the_frame_again() -> None:
    stub = Stub(2, woken=True)
    assert [stub.happen(), stub.happen(), stub.happen()] == [WOKEN, ASKS, WOKEN]
    stub.zap()
    stub.guests.clears_start()
    assert stub.happen() == ASKS


def test_with_paging_it_needs_its_stack() -> None:
    stub = Stub(1, woken=True, stage=Stage.FIRMWARE)
    assert [stub.happen(), stub.happen(), stub.happen()] == [WOKEN, FAULTED, ASKS]
    assert stub.now == COSTS.retry + 50


def late(vcpus: int) -> Stub:
    """vCPU 0 zaps; the others have woken too late for the frame that they start at."""
    stub = Stub(vcpus, woken=True)
    stub.happen()
    stub.happen()
    stub.zap()
    stub.guests.clears_start()
    assert [stub.happen() for _ in range(vcpus - 1)] == [WOKEN] * (vcpus - 1)
    return stub


def test_an_attempt_during_an_invalidation_is_in_vain() -> None:
    stub = late(2)
    stub.thaw(5000)
    stub.now = 5600.0
    stub.zap()
    assert stub.happen() == FAULTED
    assert (stub.now, stub.due) == (6000, [])
    stub.thaw(9000)
    assert stub.next == [10_000]


def test_a_frame_that_one_has_got_is_there_for_all_even_while_a_zap_is_in_progress() -> None:
    stub = late(3)
    stub.thaw(5000)
    assert stub.next == [6000, 6000]
    assert stub.happen() == FAULTED
    stub.zap()
    assert stub.happen() == FAULTED
    assert stub.next == [6050, 6050]
    assert [stub.happen(), stub.happen()] == [ASKS, ASKS]


def test_until_the_zap_clears_it_again() -> None:
    stub = late(3)
    stub.thaw(5000)
    assert stub.happen() == FAULTED
    stub.zap()
    stub.guests.clears_start()
    assert stub.happen() == FAULTED
    assert stub.next == [6050]


def test_who_is_on_the_way_stops_where_it_loses_its_entries() -> None:
    """30 of its 50 cycles are left: too many for it to have left the guest (half of ``leave``)."""
    stub = Stub(1)
    stub.zap()
    assert stub.guests.lose(20)
    assert stub.guests.contention(20, 1) == Contention(1.0, 1)
    assert stub.happen() == HELD_UP
    assert stub.due == []
    stub.thaw(3000)
    assert [stub.happen() for _ in range(2 + 2)] == [FAULTED] * 4
    assert stub.now == 3000 + 4 * COSTS.retry
    assert stub.next == [7000 + 30]


def test_who_is_on_the_way_out_gets_through() -> None:
    stub = Stub(1)
    stub.zap()
    stub.guests.lose(26)
    assert stub.happen() == ASKS


def test_who_arrives_long_after_a_loss_has_lost_time_only() -> None:
    """It stops for 20 cycles of zap and 4 faults; the rest of its way it goes after them."""
    stub = Stub(1)
    stub.zap()
    stub.guests.lose(0)
    stub.thaw(20)
    stub.due = [(9000.0, *stub.due[0][1:])]
    assert stub.happen() == HELD_UP
    assert stub.next == [pytest.approx(9000 + 20 + 4 * COSTS.retry)]


def test_entries_are_lost_once_while_zaps_are_in_progress() -> None:
    stub = Stub(1)
    stub.zap()
    assert stub.guests.lose(10)
    assert not stub.guests.lose(20)
    stub.thaw(30)
    stub.zap()
    assert stub.guests.lose(50)


def test_who_halts_after_its_last_request_is_in_nobodys_way() -> None:
    stub = Stub(2, woken=True)
    assert [stub.happen(), stub.happen()] == [WOKEN, ASKS]
    stub.actors[0].turns.clear()
    stub.guests.back(100, stub.actors[0])
    assert stub.guests.running == 1


def test_who_returns_from_a_request_faults_in_what_was_lost_meanwhile() -> None:
    stub = Stub(1)
    stub.happen()
    stub.zap()
    stub.guests.lose(60)
    stub.thaw(100)
    stub.actors[0].turns.popleft()
    stub.guests.back(100, stub.actors[0])
    assert [stub.happen() for _ in range(4)] == [FAULTED] * 4
    assert stub.next == [100 + 4 * COSTS.retry + 50]


def test_spinning_vcpus_fault_with_a_chance_that_falls_with_free_time() -> None:
    """Two pages: once the second is there, each still has the rest of its own attempt to go."""
    stub = Stub(0, spinning=5)
    stub.zap()
    stub.guests.lose(0)
    stub.thaw(0)
    stub.now = 3000.0
    stub.zap()
    lacks = math.exp(-(3000 / COSTS.retry - together(5)))
    found = stub.guests.contention(3000, 1)
    assert found.odds == pytest.approx(1 - (1 - lacks) ** 5)
    assert found.vcpus == round(5 * lacks / found.odds) == 1
    assert stub.guests.clears(3000) is (found.odds > 0.5)
    assert stub.guests.contention(3000, 1).vcpus == 5


@pytest.mark.parametrize("vcpus", [1, 2, 7, 15])
def test_together_is_what_vcpus_at_the_same_pages_take(vcpus: int) -> None:
    """Each attempts the first page that it lacks; an entry serves all. Attempt by attempt."""
    rng, pages = random.Random(vcpus), 4000
    there, now, place = 0, 0.0, [0] * vcpus
    while there < pages:
        now += rng.expovariate(vcpus)
        who = rng.randrange(vcpus)  # whose attempt ends
        there = max(there, place[who] + 1)
        place[who] = there
    assert now / pages == pytest.approx(together(vcpus), rel=0.06)
