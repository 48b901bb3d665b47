"""Which events ask, under which policy, for which frames; and the counts of the shipped recordings.

Small traces spell out one rule each; the property test replays random traces against a direct,
memory-less reading of the rules.
"""

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.traces import CD, CLEAR, ENABLED, FINE, HEADER, RESET, SLOTS, cr0, trace, wrmsr
from mtrrzap.gfn import Range
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Header, Trace
from mtrrzap.kvm.policy import POLICIES, Policy, by_name
from mtrrzap.kvm.replay import Host, Request, Totals, Why, replay, total

FULL = Range(0, 1 << 34)


def asked(policy: str, *events: Event, host: Host | None = None) -> list[tuple[int, Why, object]]:
    found = replay(trace(*events), by_name(policy), host)
    return [(request.event, request.why, request.ranges) for request in found]


NO_QUIRK = Host(quirk_cd_nw_cleared=False)


def test_a_default_type_write_always_asks_for_everything() -> None:
    """Also if nothing changes, also if it only disables what is disabled (v6.1, update_mtrr)."""
    found = asked("v6.1", RESET, wrmsr(0x2FF, 0), wrmsr(0x2FF, 0xC06), wrmsr(0x2FF, 0xC06))
    assert found == [(n, Why.DEF_TYPE, (FULL,)) for n in (1, 2, 3)]


def test_fixed_and_variable_writes_ask_only_while_enabled() -> None:
    fixed, variable = wrmsr(0x26C, 0x0606060606060606), wrmsr(0x200, 0xC0000000)
    assert asked("v6.1", RESET, fixed, variable) == []
    assert asked("v6.1", *ENABLED, fixed)[1:] == [(3, Why.FIXED, (Range(0xE0, 0xE8),))]
    without_fe = (RESET, cr0(CLEAR), wrmsr(0x2FF, 0x806))
    assert asked("v6.1", *without_fe, fixed)[1:] == []


def test_a_variable_write_asks_for_the_new_range_valid_or_not() -> None:
    events = (
        *ENABLED,
        wrmsr(0x200, 0x80000000),  # mask never written: an empty range
        wrmsr(0x201, 0xFFC0000000),  # not valid, but a range
        wrmsr(0x201, 0xFFC0000800),
        wrmsr(0x200, 0x40000000),  # moved: the old place is not asked for
        wrmsr(0x201, 0),  # mask 0: up to MAXPHYADDR
    )
    gib = 1 << 18
    assert asked("v6.1", *events)[1:] == [
        (3, Why.VARIABLE, ()),
        (4, Why.VARIABLE, (Range(2 * gib, 3 * gib),)),
        (5, Why.VARIABLE, (Range(2 * gib, 3 * gib),)),
        (6, Why.VARIABLE, (Range(gib, 2 * gib),)),
        (7, Why.VARIABLE, (Range(gib, 1 << 28),)),
    ]


def test_ranges_are_clamped_to_the_host() -> None:
    small = Host(maxphyaddr=36)
    assert asked("v6.1", *ENABLED, host=small) == [(2, Why.DEF_TYPE, (Range(0, 1 << 24),))]
    high = (wrmsr(0x201, 0xFFC0000800), wrmsr(0x200, 0xFFC0000006))
    assert asked("v6.1", *ENABLED, *high, host=small)[-1] == (4, Why.VARIABLE, ())


def test_pat_never_asks() -> None:
    assert asked("v6.1", *ENABLED, wrmsr(0x277, 0x0007040600070406))[1:] == []


def test_cd_toggles_ask_under_the_quirk_of_each_policy() -> None:
    toggles = (RESET, cr0(CLEAR), cr0(CD), cr0(CD | 0x8), cr0(CLEAR))
    assert asked("v6.1", *toggles) == asked("v6.7", *toggles) == asked("Base1", *toggles) == []
    every = [(1, Why.CD_CLEARED, (FULL,)), (2, Why.CD_SET, (FULL,)), (4, Why.CD_CLEARED, (FULL,))]
    assert asked("Base2", *toggles) == every
    assert asked("v6.1", *toggles, host=NO_QUIRK) == every
    assert asked("Base2", *toggles, host=NO_QUIRK) == every
    assert asked("v6.11", *toggles, host=NO_QUIRK) == []


def test_reset_and_init_are_no_toggles_and_init_keeps_cd() -> None:
    """QEMU's TCG sets CD on INIT; the write of CD = 0 that follows is no toggle on KVM."""
    events = (RESET, cr0(CLEAR), Event(0, Kind.INIT), cr0(CLEAR), Event(0, Kind.RESET), cr0(CLEAR))
    found = asked("Base2", *events)
    assert found == [(1, Why.CD_CLEARED, (FULL,)), (5, Why.CD_CLEARED, (FULL,))]


def test_init_keeps_the_mtrrs_and_reset_does_not() -> None:
    fixed = wrmsr(0x250, 0)
    assert len(asked("v6.1", *ENABLED, Event(0, Kind.INIT), fixed)) == 2
    assert len(asked("v6.1", *ENABLED, Event(0, Kind.RESET), fixed)) == 1


def test_patch_6_drops_mtrr_writes_under_cd() -> None:
    window = (cr0(CD), wrmsr(0x2FF, 0), wrmsr(0x250, 0), wrmsr(0x2FF, 0xC06), cr0(CLEAR))
    assert [why for _, why, _ in asked("Base1", *ENABLED, *window)] == [Why.DEF_TYPE] * 3
    assert [event for event, _, _ in asked("Base2", *ENABLED, *window)] == [1, 2, 3, 7]


def test_host_writes_count_until_patch_6() -> None:
    """User space writes each vCPU's MTRRs before its first instruction, when CD = 1."""
    put = [Event(0, Kind.HOST_WRMSR, msr, 0) for msr in (0x2FF, 0x250, 0x200, 0x201)]
    assert [event for event, _, _ in asked("Base1", RESET, *put, *put)] == [1, 5]
    assert asked("Base2", RESET, *put, *put) == []


def test_refused_writes_do_nothing() -> None:
    bad = (
        replace_refused(wrmsr(0x2FF, 0)),
        wrmsr(0x2FF, 0x1000),
        wrmsr(0x250, 7),
        wrmsr(0x210, 0),
        cr0(0x20000000),
    )
    assert len(asked("v6.1", *ENABLED, *bad, wrmsr(0x250, 0))) == 2


def replace_refused(event: Event) -> Event:
    return event._replace(refused=True)


HOLE = Range(0xC0000, 0x100000)


def test_fine_grained_toggle() -> None:
    """Default WB: the fixed area once if any byte differs, and each variable range that differs."""
    found = asked("+9+10", *FINE, cr0(CD), cr0(CLEAR))[-2:]
    both = (Range(0, 0x100), HOLE)
    assert found == [(7, Why.CD_SET, both), (8, Why.CD_CLEARED, both)]
    wb = [wrmsr(f, 0x0606060606060606) for f in (0x250, 0x258, 0x259, *range(0x268, 0x270))]
    found = asked("+9+10", *FINE, *wb, cr0(CD))
    assert found[-1] == (18, Why.CD_SET, (HOLE,))


def test_fine_grained_ignores_fe() -> None:
    """As posted, patch 10 looks at the fixed types although FE = 0 makes them void."""
    found = asked("+9+10", RESET, cr0(CLEAR), wrmsr(0x2FF, 0x806), cr0(CD))
    assert found[-1] == (3, Why.CD_SET, (Range(0, 0x100),))


def test_fine_grained_falls_back_to_everything() -> None:
    uc_default = (RESET, cr0(CLEAR), wrmsr(0x2FF, 0xC00), cr0(CD))
    assert asked("+9+10", *uc_default)[-1] == (3, Why.CD_SET, (FULL,))
    disabled = (RESET, cr0(CLEAR), cr0(CD))
    assert asked("+9+10", *disabled)[-1] == (2, Why.CD_SET, (FULL,))
    assert asked("+9+10", *FINE, cr0(CD), host=NO_QUIRK)[-1] == (7, Why.CD_SET, (FULL,))
    no_mtrr = Host(guest_has_mtrr=False)
    assert asked("+9+10", *disabled, host=no_mtrr) == []


def test_nothing_differs_is_still_a_request() -> None:
    """E = 1 and all WB: as posted the vCPU drains or waits, for no range of its own."""
    wb = [wrmsr(f, 0x0606060606060606) for f in (0x250, 0x258, 0x259, *range(0x268, 0x270))]
    found = asked("+9+10", *ENABLED, *wb, cr0(CD))
    assert found[-1] == (14, Why.CD_SET, ())


def test_patch_11_splits_only_everything() -> None:
    slots = tuple(Range(slot.start, slot.end) for slot in SLOTS)
    found = asked("+9+10+11", *FINE, cr0(CD), wrmsr(0x2FF, 0))
    assert found[0] == (1, Why.CD_CLEARED, slots)
    assert found[-1] == (7, Why.CD_SET, (Range(0, 0x100), HOLE))
    found = asked("+9+10+11", *FINE, wrmsr(0x2FF, 0))
    assert found[-1] == (7, Why.DEF_TYPE, slots)


def test_without_memslots_everything_stays_whole() -> None:
    bare = Trace(replace(HEADER, memslots=()), ENABLED)
    assert [r.ranges for r in replay(bare, by_name("+9+10+11"))] == [(FULL,)] * 2


def test_the_review_zaps_the_fixed_area_as_one() -> None:
    found = asked("review", *ENABLED, wrmsr(0x26C, 0))
    assert found[-1] == (3, Why.FIXED, (Range(0, 0x100),))


def test_who_makes_requests_at_all() -> None:
    for policy in POLICIES:
        assert asked(policy.name, *ENABLED, host=Host(noncoherent_dma=False)) == []
    npt = {p.name for p in POLICIES if asked(p.name, *ENABLED, host=Host(ept=False))}
    assert npt == {"v6.1"}


def test_totals_count_a_request_with_several_ranges_once() -> None:
    requests = replay(trace(*FINE, cr0(CD)), by_name("+9+10"))
    assert total(list(requests)[-1:]) == Totals(1, 2, 0x100 + 0x40000)


# ---- against a direct reading ------------------------------------------------------------------

small_values = st.sampled_from(
    [0, 6, 0x800, 0x806, 0xC06, 0xC00, 0x406, 0xC0000000, 0xFFC0000800, 0x0606060606060606, 7]
)
some_events = st.lists(
    st.one_of(
        st.builds(
            wrmsr,
            st.sampled_from([0x2FF, 0x250, 0x26F, 0x200, 0x201, 0x202, 0x203, 0x277, 0x210]),
            small_values,
            st.integers(0, 3),
        ),
        st.builds(cr0, st.sampled_from([CD, CLEAR, 0x20000000]), st.integers(0, 3)),
        st.builds(Event, st.integers(0, 3), st.sampled_from([Kind.INIT, Kind.RESET])),
    ),
    max_size=40,
)


def directly(events: Sequence[Event], policy: Policy, host: Host) -> list[Request]:
    """Replay each vCPU's events up to each one from scratch: no memory of what was learned."""
    found = []
    for position, event in enumerate(events):
        own = [e for e in events[: position + 1] if e.vcpu == event.vcpu]
        last = [r for r in replay(trace(*own), policy, host) if r.event == len(own) - 1]
        found += [request._replace(event=position) for request in last]
    return found


@settings(max_examples=60)
@given(some_events, st.sampled_from(POLICIES), st.booleans())
def test_vcpus_do_not_influence_each_other(
    events: list[Event], policy: Policy, quirk: bool
) -> None:
    host = Host(quirk_cd_nw_cleared=quirk)
    assert list(replay(trace(*events), policy, host)) == directly(events, policy, host)


def test_more_states_than_are_remembered() -> None:
    """30,000 different writes: the memo forgets, the result does not change."""
    writes = [wrmsr(0x200, (n << 12) | 6) for n in range(30_000)]
    found = list(replay(trace(*ENABLED, wrmsr(0x201, 0xFFFFFFF800), *writes), by_name("v6.1")))
    assert [r.ranges[0].start for r in found[2:]] == list(range(30_000))


class Stream(NamedTuple):
    """Different events that nobody keeps, as a reader gives them."""

    count: int
    msr: int

    @property
    def header(self) -> Header:
        return HEADER

    def __iter__(self) -> Iterator[Event]:
        yield from ENABLED
        for n in range(self.count):
            yield wrmsr(self.msr, n << 12 | 6)


@pytest.mark.parametrize("msr", [0x200, 0x210], ids=["accepted", "refused"])
def test_many_different_writes_do_not_fill_the_memory(msr: int) -> None:
    peaks = []
    for count in (20_000, 60_000):
        tracemalloc.start()
        for _ in replay(Stream(count, msr), by_name("v6.1")):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
