"""A trace divided among vCPUs: nothing is lost, phases keep their order, CR0 is the replay's."""

import pytest

from helpers.traces import CLEAR, cr0, trace, wrmsr
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.open import scenarios, shipped
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.phases import phases
from mtrrzap.kvm.vcpu import power_on, step
from mtrrzap.live.guest import GuestOp, TableEntry
from mtrrzap.live.plan import plan
from mtrrzap.x86.cr0 import CD_NW

TRACES = dict(shipped()) | dict(scenarios())


@pytest.mark.parametrize("name", TRACES)
def test_every_event_is_in_order_and_in_its_phase(name: str) -> None:
    whole = TRACES[name]
    made = plan(whole)
    items = {item.position: item for mine in made.items for item in mine}
    assert sorted(items) == list(range(len(whole.events)))
    for vcpu, mine in enumerate(made.items):
        assert [i.position for i in mine] == [
            n for n, event in enumerate(whole.events) if event.vcpu == vcpu
        ]
        numbers = [item.phase for item in mine if item.phase is not None]
        assert numbers == sorted(numbers)
    for number, phase in enumerate(phases(whole)):
        for vcpu, positions in phase.events.items():
            assert vcpu in made.waits_for[number]
            assert {items[position].phase for position in positions} == {number}


@pytest.mark.parametrize("name", TRACES)
def test_the_guest_has_the_cr0_of_the_replay(name: str) -> None:
    whole = TRACES[name]
    for bits, mine in zip(plan(whole).cd_nw, plan(whole).items, strict=True):
        state, real = power_on(whole.header.maxphyaddr), bits
        for item in mine:
            state, rule = step(state, item.event)
            assert item.refused == (rule is not None)
            if item.entry is not None and item.entry.op is GuestOp.SET_CD_NW:
                real = item.entry.value
            if item.entry is not None:
                assert real == state.cr0 & CD_NW


def test_entries() -> None:
    made = plan(
        trace(
            Event(0, Kind.RESET),
            Event(0, Kind.HOST_WRMSR, 0x2FF, 0xC06),
            Event(0, Kind.HELD_CR0, 0, 0x11),
            wrmsr(0x2FF, 0x1000),
            cr0(1 << 40),
            Event(0, Kind.HELD_CR0, 0, 1 << 40),
            Event(0, Kind.HOST_WRMSR, 0x2FF, 0),
            cr0(CLEAR | 1 << 30),
            Event(0, Kind.INIT),
            Event(0, Kind.RESET),
        )
    )
    assert [item.entry for item in made.items[0]] == [
        *(None, None, None),
        TableEntry(GuestOp.WRMSR, 0x2FF, 0x1000),
        TableEntry(GuestOp.MOV_CR0, 0, 1 << 40),
        *(None, None),
        TableEntry(GuestOp.SET_CD_NW, 0, 1 << 30),
        TableEntry(GuestOp.SET_CD_NW, 0, 1 << 30),
        TableEntry(GuestOp.SET_CD_NW, 0, 3 << 29),
    ]
    assert [item.refused for item in made.items[0]] == [
        *(False, False, False, True, True, True),
        *(False, False, False, False),
    ]
    assert made.cd_nw[0] == 0
    assert len(made.tables()[0]) == 5


def test_an_empty_trace_has_nobody_to_wait_for() -> None:
    empty = Trace(trace().header, ())
    assert plan(empty).waits_for == ()
    assert all(mine == () for mine in plan(empty).items)
