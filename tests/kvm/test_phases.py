"""Phases: what a trace shows to go on at once."""

from dataclasses import replace

import pytest

from helpers.traces import CD, CLEAR, HEADER, cr0, wrmsr
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.open import shipped
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.phases import phases
from mtrrzap.simulator import Stage

RECORDINGS = dict(shipped())
ON = 0xC06
FIRMWARE = (Stage.UNPAGED, Stage.FIRMWARE)


def made(*events: Event, vcpus: int = 2) -> list[tuple[int, int, list[int], int]]:
    trace = Trace(replace(HEADER, vcpus=vcpus), events)
    return [(p.first, p.last, sorted(p.events), p.running) for p in phases(trace)]


def by(vcpu: int, event: Event) -> Event:
    return event._replace(vcpu=vcpu)


def test_updates_one_by_one_are_phases_of_their_own() -> None:
    events = [by(v, e) for v in (0, 1) for e in (cr0(CLEAR), wrmsr(0x2FF, ON))]
    events += [by(v, e) for v in (1, 0) for e in (cr0(CD), wrmsr(0x2FF, ON), cr0(CLEAR))]
    assert made(*events) == [(0, 3, [0, 1], 2), (4, 6, [1], 2), (7, 9, [0], 2)]


def test_updates_that_overlap_are_one_phase_with_what_led_to_them() -> None:
    events = [by(v, e) for e in (cr0(CLEAR), wrmsr(0x2FF, ON)) for v in (0, 1)]
    events += [by(v, e) for e in (cr0(CD), wrmsr(0x2FF, ON), cr0(CLEAR)) for v in (0, 1)]
    assert made(*events) == [(0, 9, [0, 1], 2)]


def test_a_vcpu_that_is_woken_next_sleeps_until_then() -> None:
    events = [cr0(CLEAR), wrmsr(0x2FF, ON), cr0(CD), wrmsr(0x2FF, ON), cr0(CLEAR)]
    events += [Event(1, Kind.INIT), by(1, cr0(CLEAR))]
    assert made(*events) == [(0, 4, [0], 1), (6, 6, [1], 2)]


def test_an_init_begins_a_wave_of_its_own() -> None:
    """What the vCPUs did after the one before is over: vCPU 0 has waited for it."""
    events = [by(v, cr0(CLEAR)) for v in (1, 2)]
    events += [Event(v, Kind.INIT) for v in (1, 2)]
    events += [by(v, e) for e in (cr0(CD), wrmsr(0x2FF, ON), cr0(CLEAR)) for v in (1, 2)]
    trace = Trace(replace(HEADER, vcpus=3), tuple(events))
    first, second = phases(trace)
    assert (first.last, second.first) == (1, 4)
    assert (first.woken, first.sleepers) == (frozenset(), {1, 2})
    assert (second.woken, second.sleepers) == ({1, 2}, frozenset())


@pytest.mark.parametrize(
    ("name", "waves", "alone"),
    [("seabios-8", [7], 17), ("seabios-16", [15], 32), ("ovmf-8", [7, 7, 7, 7], 13)],
)
def test_the_recordings(name: str, waves: list[int], alone: int) -> None:
    """Firmware's broadcasts at once; SeaBIOS's replays and Linux's windows one by one.

    In the recording with 16 vCPUs one replay runs while others are still on their way to the lock.
    """
    found = [p for p in phases(RECORDINGS[name]) if p.stage in FIRMWARE]
    assert [len(p.events) for p in found if p.concurrent][: len(waves)] == waves
    updates = [p for p in phases(RECORDINGS[name]) if p.stage and not p.concurrent]
    assert len(updates) == alone


def test_the_kernel_spins_while_one_updates() -> None:
    last = phases(RECORDINGS["ovmf-8"])[-1]
    assert (last.stage, last.running, len(last.events)) == (Stage.KERNEL, 8, 1)


def test_firmware_shows_whether_it_uses_paging() -> None:
    for name, stage in (("seabios-8", Stage.UNPAGED), ("ovmf-8", Stage.FIRMWARE)):
        assert {p.stage for p in phases(RECORDINGS[name])} == {Stage.NOT_RUN, stage, Stage.KERNEL}


@pytest.mark.parametrize("name", ["seabios-8", "ovmf-8"])
def test_the_phase_of_an_event(name: str) -> None:
    found = phases(RECORDINGS[name])
    of = {at: n for n, phase in enumerate(found) for mine in phase.events.values() for at in mine}
    assert of.keys() == {
        n for n, e in enumerate(RECORDINGS[name]) if e.kind not in (Kind.RESET, Kind.INIT)
    }
    assert {at: found.number_of(at) for at in range(len(RECORDINGS[name].events))} == {
        at: of.get(at) for at in range(len(RECORDINGS[name].events))
    }
    assert found[-1] == found[len(found) - 1]
    with pytest.raises(IndexError):
        found[len(found)]
