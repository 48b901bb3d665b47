"""The memory map before and after each update window; equal maps are shown once, by number."""

from typing import NamedTuple

from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.vcpu import power_on
from mtrrzap.kvm.windows import Window, states
from mtrrzap.report import memtype
from mtrrzap.x86.mtrr import Mtrrs

MAX_MAPS = 40
"""Distinct maps that a page shows in full; a guest has a handful, a fuzzer any number."""


class Map(NamedTuple):
    """One memory map by the manual and by KVM; CR0.CD is not looked at."""

    number: int
    rows: tuple[memtype.Row, ...]
    whole: bool
    """False if there are more rows than shown."""
    enabled: bool


class Change(NamedTuple):
    """A window with the numbers of its vCPU's maps; None: the map is not shown."""

    window: Window
    before: int | None
    after: int | None


class Maps(NamedTuple):
    """All windows, and the distinct maps that they lead from and to."""

    changes: tuple[Change, ...]
    maps: tuple[Map, ...]
    hidden: int
    """Maps beyond ``MAX_MAPS``."""


def maps(trace: Trace, windows: list[Window]) -> Maps:
    """Follow every vCPU's registers through its windows."""
    firsts = {window.first for window in windows}
    lasts = {window.last for window in windows}
    now = [power_on(trace.header.maxphyaddr).mtrrs] * trace.header.vcpus
    before, after = {}, {}
    for position, event, was, became in states(trace):
        now[event.vcpu] = became.mtrrs
        if position in firsts:
            before[position] = was.mtrrs
        if position in lasts:
            after[position] = became.mtrrs
    pairs = [(before[w.first], now[w.vcpu] if w.last is None else after[w.last]) for w in windows]
    known: dict[tuple[memtype.Row, ...], int] = {}
    numbers: dict[Mtrrs, int] = {}
    shown: list[Map] = []
    for mtrrs in dict.fromkeys(state for pair in pairs for state in pair):
        rows, whole = memtype.table(mtrrs)
        number = known.setdefault(tuple(rows), len(known))
        numbers[mtrrs] = number
        if number == len(shown) and number < MAX_MAPS:
            shown.append(Map(number + 1, tuple(rows), whole, mtrrs.enabled))
    return Maps(
        changes=tuple(
            Change(window, *(_shown(numbers[state]) for state in pair))
            for window, pair in zip(windows, pairs, strict=True)
        ),
        maps=tuple(shown),
        hidden=max(0, len(known) - MAX_MAPS),
    )


def _shown(number: int) -> int | None:
    return number + 1 if number < MAX_MAPS else None
