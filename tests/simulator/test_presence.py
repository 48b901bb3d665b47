"""vCPUs outside of requests, by hand: who is held up by a zap, for how long, and who contends."""

import heapq
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
from mtrrzap.simulator.events import Loop
from mtrrzap.simulator.presence import Contention, InGuest, Presence, together

ALL = Range(0, 1 << 34)


class Stub:
    """vCPUs in the guest, and the events that they have scheduled."""

    def __init__(
        self,
        actors: int,
        *,
        spinning: int = 0,
        woken: bool = False,
        stage: Stage = Stage.UNPAGED,
    ) -> None:
        self.loop = Loop()
        self.guests = Presence(COSTS, self.loop)
        request = Request(0, 0, Why.CD_CLEARED, (ALL,))
        self.actors = [Actor(v, [(50.0, request)] * 2, sleeps=woken) for v in range(actors)]
        phase = Phase(first=0, stage=stage, running=actors + spinning)
        self.guests.start(phase, self.actors, numbers(0, 0, 1))  # one stream of events: mean times
        for number, actor in enumerate(self.actors):
            self.guests.set_off(actor, 1000.0 * number, woken=woken)

    def happen(self) -> tuple[InGuest, bool]:
        self.loop.now, _, _, actor, what = heapq.heappop(self.loop.heap)
        return what, self.guests.happens(actor, what)

    def at(self, now: float) -> Presence:
        """Let time pass, without what would happen meanwhile."""
        self.loop.now = now
        return self.guests

    def zap(self) -> None:
        self.guests.zap_begins(ALL, first=True)

    @property
    def next(self) -> list[float]:
        return sorted(time for time, *_ in self.loop.heap)


WOKEN, FAULTED = (InGuest.WOKEN, False), (InGuest.FAULTED, False)
ASKS, HELD_UP = (InGuest.ARRIVES, True), (InGuest.ARRIVES, False)


def test_a_vcpu_with_its_entries_asks_when_its_way_is_done() -> None:
    stub = Stub(1)
    assert stub.happen() == ASKS
    assert stub.loop.now == 50


def test_a_vcpu_that_wakes_too_late_finds_the_frame_of_its_sipi_gone() -> None:
    stub = Stub(2, woken=True)
    assert [stub.happen(), stub.happen()] == [WOKEN, ASKS]
    stub.zap()
    stub.guests.clears_start()
    assert stub.at(50).contention(1) == Contention(0.0, 0)
    assert stub.happen() == WOKEN
    assert stub.next == []
    assert stub.at(1000).contention(1) == Contention(1.0, 1)
    stub.at(5000).thaw()
    assert stub.happen() == FAULTED
    assert stub.loop.now == 5000 + COSTS.retry
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
    assert stub.loop.now == COSTS.retry + 50


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
    stub.at(5000).thaw()
    stub.loop.now = 5600.0
    stub.zap()
    assert stub.happen() == FAULTED
    assert (stub.loop.now, stub.next) == (6000, [])
    stub.at(9000).thaw()
    assert stub.next == [10_000]


def test_a_frame_that_one_has_got_is_there_for_all_even_while_a_zap_is_in_progress() -> None:
    stub = late(3)
    stub.at(5000).thaw()
    assert stub.next == [6000, 6000]
    assert stub.happen() == FAULTED
    stub.zap()
    assert stub.happen() == FAULTED
    assert stub.next == [6050, 6050]
    assert [stub.happen(), stub.happen()] == [ASKS, ASKS]


def test_until_the_zap_clears_it_again() -> None:
    stub = late(3)
    stub.at(5000).thaw()
    assert stub.happen() == FAULTED
    stub.zap()
    stub.guests.clears_start()
    assert stub.happen() == FAULTED
    assert stub.next == [6050]


def test_who_is_on_the_way_stops_where_it_loses_its_entries() -> None:
    """30 of its 50 cycles are left: too many for it to have left the guest (half of ``leave``)."""
    stub = Stub(1)
    stub.zap()
    assert stub.at(20).lose()
    assert stub.at(20).contention(1) == Contention(1.0, 1)
    assert stub.happen() == HELD_UP
    assert stub.next == []
    stub.at(3000).thaw()
    assert [stub.happen() for _ in range(2 + 2)] == [FAULTED] * 4
    assert stub.loop.now == 3000 + 4 * COSTS.retry
    assert stub.next == [7000 + 30]


def test_who_is_on_the_way_out_gets_through() -> None:
    stub = Stub(1)
    stub.zap()
    stub.at(26).lose()
    assert stub.happen() == ASKS


def test_who_arrives_long_after_a_loss_has_lost_time_only() -> None:
    """It stops for 20 cycles of zap and 4 faults; the rest of its way it goes after them."""
    stub = Stub(1)
    stub.zap()
    stub.at(0).lose()
    stub.at(20).thaw()
    stub.loop.heap[0] = (9000.0, *stub.loop.heap[0][1:])
    assert stub.happen() == HELD_UP
    assert stub.next == [pytest.approx(9000 + 20 + 4 * COSTS.retry)]


def test_entries_are_lost_once_while_zaps_are_in_progress() -> None:
    stub = Stub(1)
    stub.zap()
    assert stub.at(10).lose()
    assert not stub.at(20).lose()
    stub.at(30).thaw()
    stub.zap()
    assert stub.at(50).lose()


def test_who_halts_after_its_last_request_is_in_nobodys_way() -> None:
    stub = Stub(2, woken=True)
    assert [stub.happen(), stub.happen()] == [WOKEN, ASKS]
    stub.actors[0].turns.clear()
    stub.at(100).back(stub.actors[0])
    assert stub.guests.running == 1


def test_who_returns_from_a_request_faults_in_what_was_lost_meanwhile() -> None:
    stub = Stub(1)
    stub.happen()
    stub.zap()
    stub.at(60).lose()
    stub.at(100).thaw()
    stub.actors[0].turns.popleft()
    stub.at(100).back(stub.actors[0])
    assert [stub.happen() for _ in range(4)] == [FAULTED] * 4
    assert stub.next == [100 + 4 * COSTS.retry + 50]


def test_spinning_vcpus_fault_with_a_chance_that_falls_with_free_time() -> None:
    """Two pages: once the second is there, each still has the rest of its own attempt to go."""
    stub = Stub(0, spinning=5)
    stub.zap()
    stub.at(0).lose()
    stub.at(0).thaw()
    stub.loop.now = 3000.0
    stub.zap()
    lacks = math.exp(-(3000 / COSTS.retry - together(5)))
    found = stub.at(3000).contention(1)
    assert found.odds == pytest.approx(1 - (1 - lacks) ** 5)
    assert found.vcpus == round(5 * lacks / found.odds) == 1
    assert stub.at(3000).clears() is (found.odds > 0.5)
    assert stub.at(3000).contention(1).vcpus == 5


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
