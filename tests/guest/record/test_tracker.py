"""Which observations become events, and which cannot be explained."""

import pytest

from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.record.tracker import (
    PUT,
    PUTS_AT_RESET,
    PUTS_AT_START,
    Tracker,
    is_mtrr_msr,
    split_resets,
)

CD, NW, WP = 1 << 30, 1 << 29, 1 << 16
RESET_CR0 = CD | NW | 0x10


def tracker(vcpus: int = 1, *, host: bool = False) -> tuple[Tracker, list[Event]]:
    events: list[Event] = []
    return Tracker(vcpus, PUT if host else (), events.append), events


def test_power_on_with_qemus_writes() -> None:
    """Two puts of 28 registers per vCPU, after all vCPUs are reset."""
    made, events = tracker(2, host=True)
    made.reset(PUTS_AT_START)
    assert [e.kind for e in events] == [Kind.RESET] * 2 + [Kind.HOST_WRMSR] * (2 * 2 * 28)
    first = events[2:30]
    assert [e.msr for e in first] == [
        0x2FF, 0x250, 0x258, 0x259, *range(0x268, 0x270), *range(0x200, 0x210),
    ]  # fmt: skip
    assert {e.value for e in events} == {0}
    assert [e.vcpu for e in events[2:]] == [0] * 28 + [1] * 28 + [0] * 28 + [1] * 28


def test_a_machine_reset_puts_once() -> None:
    made, events = tracker(2, host=True)
    made.reset(PUTS_AT_RESET)
    assert sum(e.kind is Kind.HOST_WRMSR and e.msr == 0x2FF for e in events) == 2


@pytest.mark.parametrize("msr", [0x200, 0x20F, 0x250, 0x26F, 0x277, 0x27F, 0x2A0, 0x2FF])
def test_mtrr_msrs(msr: int) -> None:
    assert is_mtrr_msr(msr)


@pytest.mark.parametrize("msr", [0xFE, 0x1FF, 0x280, 0x29F, 0x300, 0xC0000100])
def test_other_msrs(msr: int) -> None:
    assert not is_mtrr_msr(msr)


def test_only_mtrr_writes_are_events() -> None:
    made, events = tracker()
    made.wrmsr(0, 0xC0000080, 1, refused=False)
    made.wrmsr(0, 0x2FF, 0xC06, refused=False)
    made.wrmsr(0, 0x2FF, 0xBAD, refused=True)
    assert events == [
        Event(0, Kind.WRMSR, 0x2FF, 0xC06),
        Event(0, Kind.WRMSR, 0x2FF, 0xBAD, refused=True),
    ]


def test_only_changes_of_cd_and_nw_are_events() -> None:
    made, events = tracker()
    made.cr0(0, RESET_CR0, RESET_CR0 | 1)
    made.cr0(0, RESET_CR0 | 1, NW | 0x11)
    made.cr0(0, NW | 0x11, 0x11)
    made.cr0(0, 0x11, 0x11 | WP)
    made.cr0(0, 0x11 | WP, CD | 0x11)
    assert [e.value for e in events] == [NW | 0x11, 0x11, CD | 0x11]
    assert made.problems == []


def test_a_missed_write_is_noticed_once() -> None:
    made, _ = tracker()
    made.observe(0, 0x11)
    made.observe(0, 0x11)
    assert made.problems == [
        "CR0 of vCPU 0 is 0x11, but the recorded writes leave CD and NW at 0x60000000: "
        "a write was missed"
    ]


@pytest.mark.parametrize("after_init", [RESET_CR0, 0x10])
def test_init_with_an_emulator_that_sets_cd_or_keeps_it(after_init: int) -> None:
    """Setting PE is no event either way, and the trace has no change that a real CPU has not."""
    made, events = tracker()
    made.cr0(0, RESET_CR0, 0x11)
    made.init(0)
    made.cr0(0, after_init, after_init | 1)
    made.observe(0, after_init | 1)
    made.cr0(0, after_init | 1, 0x80000011)
    kinds = [e.kind for e in events]
    changes = [Kind.CR0] if after_init & CD else []
    assert kinds == [Kind.CR0, Kind.INIT, *changes]
    assert made.problems == []


def test_init_does_not_excuse_other_values() -> None:
    made, _ = tracker()
    made.cr0(0, RESET_CR0, 0x11)
    made.init(0)
    made.observe(0, CD | 0x11)
    assert len(made.problems) == 1


@pytest.mark.parametrize(
    ("resets", "machine_resets", "parts"),
    [
        ([], 0, []),
        ([1], 0, [1]),
        ([1, 2], 0, [1, 2]),
        ([0, 1, 2], 0, [0, 1, 2]),
        ([0, 1, 2], 1, [None]),
        ([1, 2, 0, 1, 2, 2], 1, [1, 2, None, 2]),
        ([1, 1, 0, 1, 2, 2], 1, [1, 1, None, 2]),
        ([0, 1, 2, 0, 1, 2, 1], 2, [None, None, 1]),
        ([1, 2], 1, None),
    ],
)
def test_split_resets(
    resets: list[int], machine_resets: int, parts: list[int | None] | None
) -> None:
    assert split_resets(resets, 3, machine_resets) == parts
