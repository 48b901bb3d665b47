"""Synthetic boots with the structure of real ones, for tests that want many vCPUs.

They are no recordings: which registers are written in which order follows the firmware's and
Linux's sources, the values are simplified.
"""

from collections.abc import Iterator
from dataclasses import replace

from helpers.traces import HEADER
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Slot, Trace
from mtrrzap.x86 import msr as m

CD, CLEAR = 0x60000010, 0x80050033
WINDOW_CD = CLEAR | 1 << 30
WB8, UC8, WP8 = (kind * 0x0101010101010101 for kind in (6, 0, 5))
FIXED = [fixed.msr for fixed in m.FIXED]
SLOTS = (
    Slot(0, 0xA0, "ram"),
    Slot(0xC0, 0x100, "rom"),
    Slot(0x100, 0xC0000, "ram"),
    Slot(0xFFFC0, 0x100000, "rom"),
    Slot(0x100000, 0x440000, "ram"),
)


def wrmsr(vcpu: int, msr: int, value: int) -> Event:
    return Event(vcpu, Kind.WRMSR, msr, value)


def cr0(vcpu: int, value: int) -> Event:
    return Event(vcpu, Kind.CR0, 0, value)


def _final(vcpu: int) -> list[Event]:
    """Default WB, the first 640 KiB WB, then UC and WP up to 1 MiB, a UC hole."""
    types = [WB8, WB8, UC8, *[WP8] * 8]
    writes = [wrmsr(vcpu, msr, value) for msr, value in zip(FIXED, types, strict=True)]
    writes += [wrmsr(vcpu, msr, 0) for msr in m.VARIABLE]
    return [*writes, wrmsr(vcpu, 0x200, 0xC0000000), wrmsr(vcpu, 0x201, 0xFFC0000800)]


def linux(vcpus: int) -> Iterator[Event]:
    """Every CPU's window in turn: they hold one lock."""
    for vcpu in (0, *range(vcpus)):
        yield cr0(vcpu, WINDOW_CD)
        yield wrmsr(vcpu, 0x2FF, 0)
        yield wrmsr(vcpu, 0x2FF, 0xC06)
        yield cr0(vcpu, CLEAR)


def seabios(vcpus: int) -> Trace:
    """SeaBIOS and Linux: APs clear CD at once, then replay the writes one after the other."""
    events = [*_power_on(vcpus), cr0(0, 0x11)]
    setup = [wrmsr(0, 0x2FF, 0), *_final(0), wrmsr(0, 0x2FF, 0xC06)]
    events += setup
    events += [cr0(ap, 0x11) for ap in range(1, vcpus)]
    for ap in range(1, vcpus):
        events += [event._replace(vcpu=ap) for event in setup]
    return _trace(vcpus, "SeaBIOS", [*events, *linux(vcpus)])


def ovmf(vcpus: int) -> Trace:
    """OVMF and Linux: three windows a vCPU, those of the APs at the same time."""
    events = [*_power_on(vcpus), cr0(0, 0x23), wrmsr(0, 0x2FF, 0x806)]
    events += [cr0(ap, 0x23) for ap in range(1, vcpus)]
    for _ in range(3):
        for vcpu in range(vcpus):
            events += [cr0(vcpu, WINDOW_CD), wrmsr(vcpu, 0x2FF, 0x406)]
        for step in range(len(_final(0))):
            events += [_final(vcpu)[step] for vcpu in range(vcpus)]
        for vcpu in range(vcpus):
            events += [wrmsr(vcpu, 0x2FF, 0xC06), cr0(vcpu, CLEAR)]
    return _trace(vcpus, "OVMF", [*events, *linux(vcpus)])


def _power_on(vcpus: int) -> list[Event]:
    puts = [Event(vcpu, Kind.HOST_WRMSR, 0x2FF, 0) for _ in range(2) for vcpu in range(vcpus)]
    return [Event(vcpu, Kind.RESET) for vcpu in range(vcpus)] + puts


def _trace(vcpus: int, firmware: str, events: list[Event]) -> Trace:
    header = replace(HEADER, firmware=firmware, vcpus=vcpus, memory=16 << 30, memslots=SLOTS)
    return Trace(header, tuple(events))
