"""The memory map before and after each update window; equal maps are shown once, by number."""

from collections.abc import Iterable
from typing import NamedTuple

from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.vcpu import power_on
from mtrrzap.kvm.windows import Window, states
from mtrrzap.study.both_maps import MapRow, table
from mtrrzap.x86.mtrr import Mtrrs

MAX_MAPS = 40
"""Distinct maps that a page shows in full; a guest has a handful, a fuzzer any number."""


class Map(NamedTuple):
    """One memory map by the manual and by KVM; CR0.CD is not looked at."""

    number: int
    rows: tuple[MapRow, ...]
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
    """Register states that came after ``MAX_MAPS`` maps; theirs are not shown."""


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
    numbers, shown, hidden = _numbered(state for pair in pairs for state in pair)
    return Maps(
        changes=tuple(
            Change(window, numbers.get(pair[0]), numbers.get(pair[1]))
            for window, pair in zip(windows, pairs, strict=True)
        ),
        maps=tuple(shown),
        hidden=hidden,
    )


def _numbered(states_: Iterable[Mtrrs]) -> tuple[dict[Mtrrs, int], list[Map], int]:
    """Return the number of the map of each register state, the maps, and the states left out."""
    known: dict[tuple[MapRow, ...], int] = {}
    numbers: dict[Mtrrs, int] = {}
    shown: list[Map] = []
    distinct = dict.fromkeys(states_)
    for mtrrs in distinct:
        if len(shown) == MAX_MAPS:
            break  # a map may cost thousands of lookups
        found, whole = table(mtrrs)
        rows = tuple(found)
        numbers[mtrrs] = known.setdefault(rows, len(known) + 1)
        if numbers[mtrrs] > len(shown):
            shown.append(Map(numbers[mtrrs], rows, whole, mtrrs.enabled))
    return numbers, shown, len(distinct) - len(numbers)
