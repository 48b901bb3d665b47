"""What the audit finds: each known defect in its shortest scenario, and what it says of boots."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from helpers import guests
from helpers.traces import CD, CLEAR, HEADER, cr0, wrmsr
from mtrrzap.gfn import Range
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.open import scenarios
from mtrrzap.guest.trace import Slot, Trace
from mtrrzap.kvm.audit import Audit, AuditVerdict, Disagreement, Finding, Need, audit
from mtrrzap.kvm.policy import POLICIES, Ask, Policy, Walk, by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.memtype import MemType

SCENARIOS = dict(scenarios())
UC, WB = EptType(MemType.UC), EptType(MemType.WB)
WB_IPAT = EptType(MemType.WB, ipat=True)
ALL = Range(0, 0x100000)
FIXED, REST = Range(0, 0x100), Range(0x100, 0x100000)
PATCH_12 = {"Base2+12", "Base2+9+10+12", "Base2+9+10+11+12"}
PATCH_10 = {"Base2+9+10", "Base2+9+10+11", "Base2+9+10+12", "Base2+9+10+11+12", "review", "ticket"}
BY_RANGE = {p.name for p in POLICIES if p.honours_mtrrs and p.walk is not Walk.MARK}


def trace(*events: Event, vcpus: int = 1) -> Trace:
    slots = (Slot(ALL.start, ALL.end, "ram"),)
    return Trace(replace(HEADER, vcpus=vcpus, memslots=slots), events)


def stale_at_the_end(scenario: str, policy: str | Policy) -> list[tuple[object, ...]]:
    """(range, stale type, right types, since event) of what is never ended."""
    chosen = by_name(policy) if isinstance(policy, str) else policy
    found = audit(SCENARIOS[scenario], chosen)
    return [(f.range, f.type, f.now, f.begin) for f in found.defects if f.end is None]


@pytest.mark.parametrize(
    ("scenario", "stale"),
    [
        ("cd-types-outlive-the-window", {"v6.1", "v6.7", "Base1"}),
        ("range-moves", BY_RANGE),
        ("range-shrinks", BY_RANGE),
        ("range-ends-with-a-smaller-mask", BY_RANGE),
        ("fe-is-clear", {"v6.1", "Base1"}),
        ("fixed-range-under-cd", {"v6.1", "Base1"}),
        (
            "huge-page-over-the-fixed-area",
            {"v6.1", "v6.7", "Base1", "Base2+9+10+12", "Base2+9+10+11+12"},
        ),
        ("huge-page-over-a-small-range", PATCH_12),
        ("reset-keeps-entries", {"v6.1", "Base1"} | PATCH_10),
    ],
)
def test_which_policies_leave_something_stale(scenario: str, stale: set[str]) -> None:
    verdicts = {p.name: audit(SCENARIOS[scenario], p).verdict.word for p in POLICIES}
    assert {name for name, word in verdicts.items() if word == "stale"} == stale
    assert verdicts["v6.11"] == "right"


def test_every_scenario_is_tested_and_explained() -> None:
    assert len(SCENARIOS) == 9
    assert all(scenario.header.notes for scenario in SCENARIOS.values())


def test_entries_made_under_cd_outlive_the_toggle() -> None:
    """The quirk's default in v6.1, and without IPAT in v6.7: no zap when CD is cleared."""
    uc = [Range(0, 0xA0), Range(0xC0, 0x100)]
    expected = [(r, WB_IPAT, (UC,), 5) for r in uc] + [(REST, WB_IPAT, (WB,), 5)]
    assert stale_at_the_end("cd-types-outlive-the-window", "v6.1") == expected
    expected = [(r, WB, (UC,), 5) for r in uc]
    assert stale_at_the_end("cd-types-outlive-the-window", "v6.7") == expected


def test_without_the_quirk_the_toggle_zaps() -> None:
    host = Host(quirk_cd_nw_cleared=False)
    for name in ("v6.1", "v6.7", "Base1", "Base2"):
        found = audit(SCENARIOS["cd-types-outlive-the-window"], by_name(name), host)
        assert found.defects == ()


def test_a_changed_range_keeps_its_old_place() -> None:
    gib = 0x40000
    for policy in ("v6.1", "Base2", "+9+10", "review"):
        moved = [found for found in stale_at_the_end("range-moves", policy) if found[1] == UC]
        assert moved == [(Range(2 * gib, 3 * gib), UC, (WB,), 5)]
    shrunk = stale_at_the_end("range-shrinks", "Base2")
    assert shrunk == [(Range(3 * gib, 4 * gib), UC, (WB,), 5)]
    ended = stale_at_the_end("range-ends-with-a-smaller-mask", "Base2")
    assert ended == [(Range(2 * gib + 1, 3 * gib), UC, (WB,), 5)]


def test_a_page_that_sticks_out_of_the_range_survives_patch_12() -> None:
    small = Range(0x40000, 0x40100)
    assert stale_at_the_end("huge-page-over-a-small-range", "+12") == [(small, WB, (UC,), 4)]
    fixed = stale_at_the_end("huge-page-over-the-fixed-area", "+9+10+12")
    assert fixed == [(FIXED, WB, (UC,), 5)]
    ended = stale_at_the_end("range-ends-with-a-smaller-mask", "+12")
    assert ended == [(Range(0x80000, 0xC0000), UC, (WB,), 5)]


@pytest.mark.parametrize(("largest_page", "word"), [(1, "right"), (2, "stale"), (3, "stale")])
def test_patch_12_needs_huge_pages_to_fail(largest_page: int, word: str) -> None:
    host = Host(largest_page=largest_page)
    scenario = SCENARIOS["huge-page-over-a-small-range"]
    assert audit(scenario, by_name("+12"), host).verdict.word == word
    assert audit(scenario, by_name("Base2"), host).verdict.word == "right"


def test_a_memslot_border_keeps_pages_from_sticking_out() -> None:
    """QEMU's memslots end at 0xa0 or 0xc0, so the fixed area is never under a huge page."""
    whole = SCENARIOS["huge-page-over-the-fixed-area"]
    slots = (Slot(0, 0xC0, "ram"), Slot(0xC0, 0x100, "rom"), Slot(0x100, 0x100000, "ram"))
    cut = replace(whole, header=replace(whole.header, memslots=slots))
    assert audit(cut, by_name("+9+10+12")).verdict == AuditVerdict("right", 0, None)


def test_the_fixed_range_scenario() -> None:
    """Patch 10 passes, since it zaps when CD is set; a zap at the clearing alone would not."""
    clear_only = replace(by_name("+9+10"), name="clear only", cd_toggle=Ask.WHILE_CD_CLEAR)
    window = Range(0xA0, 0xC0)
    assert stale_at_the_end("fixed-range-under-cd", clear_only) == [(window, UC, (WB,), 13)]
    assert stale_at_the_end("fixed-range-under-cd", "+9+10") == []


def test_patch_10_zaps_the_fixed_area_although_fe_is_clear() -> None:
    """Nothing is stale: FE costs two requests that no entry needs."""
    needs = audit(SCENARIOS["fe-is-clear"], by_name("+9+10")).needs
    assert needs[-2:] == (Need(3, 0x100, 0), Need(4, 0x100, 0))
    needs = audit(SCENARIOS["fe-is-clear"], by_name("Base2")).needs
    assert needs[-2:] == (Need(3, 0x100000, 0), Need(4, 0x100000, 0))


def test_reset_sets_cd_behind_the_policys_back() -> None:
    old = Range(0x80000, 0xC0000)
    assert stale_at_the_end("reset-keeps-entries", "+9+10") == [(old, UC, (WB,), 5)]
    base2 = audit(SCENARIOS["reset-keeps-entries"], by_name("Base2")).verdict
    assert str(base2) == "window only (1 part, event 5)"


# ---- intervals ---------------------------------------------------------------------------------

READY = (cr0(CLEAR), wrmsr(0x2FF, 0x806))


def test_a_finding_names_what_began_and_what_ended_it() -> None:
    events = (*READY, cr0(CD), cr0(CLEAR), cr0(CD), wrmsr(0x2FF, 0x806), cr0(CLEAR))
    found = audit(trace(*events), by_name("v6.1")).findings
    assert found == (
        Finding(ALL, WB_IPAT, (UC,), 0, 1, True, ()),
        Finding(ALL, WB, (WB_IPAT,), 2, 3, False, ()),
        Finding(ALL, WB_IPAT, (WB,), 3, 4, False, ((3, 4),)),
        Finding(ALL, WB, (WB_IPAT,), 4, 5, True, ()),
        Finding(ALL, WB_IPAT, (WB,), 6, None, False, ((6, None),)),
    )


def test_quiet_intervals_are_those_of_all_vcpus() -> None:
    """vCPU 1's window comes and goes while vCPU 0's old range is stale."""
    both = [event._replace(vcpu=vcpu) for event in READY for vcpu in (0, 1)]
    both += [wrmsr(msr, value, v) for v in (0, 1) for msr, value in UC_RANGE]
    moved = [wrmsr(0x200, 0x40000000, vcpu) for vcpu in (0, 1)]
    events = (*both, *moved, wrmsr(0x2FF, 6, 1))
    found = audit(trace(*events, vcpus=2), by_name("v6.7")).findings[-1]
    assert (found.range, found.begin, found.end) == (Range(0x80000, 0xC0000), 9, 10)
    assert found.quiet == ((9, 10),)
    under_base2 = (*both, *moved, cr0(CD, 1), cr0(CLEAR, 1))
    found = audit(trace(*under_base2, vcpus=2), by_name("+9+10")).findings[-1]
    assert (found.begin, found.end, found.quiet) == (9, None, ((9, 10), (11, None)))


UC_RANGE = ((0x200, 0x80000000), (0x201, 0xFFC0000800))


def test_vcpus_that_disagree_are_reported_once_all_are_outside() -> None:
    both = [event._replace(vcpu=vcpu) for event in READY for vcpu in (0, 1)]
    events = (*both, *(wrmsr(*write) for write in UC_RANGE), wrmsr(0x2FF, 0x806, 1), cr0(CD, 1))
    found = audit(trace(*events, vcpus=2), by_name("Base2"))
    assert found.findings == ()
    hole = Range(0x80000, 0xC0000)
    assert found.disagreements == (Disagreement(hole, (UC, WB), 5, 7),)


# ---- who and what counts ------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [p.name for p in POLICIES])
def test_nothing_is_stale_where_types_are_constant(policy: str) -> None:
    for scenario in SCENARIOS.values():
        for host in (Host(noncoherent_dma=False), Host(ept=False)):
            assert audit(scenario, by_name(policy), host)[:2] == ((), ())


def test_a_vcpu_that_does_nothing_neither_faults_nor_holds_a_window_open() -> None:
    idle = [Event(1, Kind.RESET), Event(1, Kind.HOST_WRMSR, 0x2FF, 0)]
    scenario = SCENARIOS["range-moves"]
    two = Trace(replace(scenario.header, vcpus=2), (*scenario.events, *idle))
    one = audit(scenario, by_name("Base2"))
    assert audit(two, by_name("Base2")).findings == one.findings
    nobody = trace(*idle, vcpus=2)
    assert audit(nobody, by_name("v6.1")) == Audit((), (), (Need(1, 0x100000, 0),))


def test_frames_outside_of_memslots_have_no_entries() -> None:
    scenario = SCENARIOS["range-moves"]
    slots = (Slot(0, 0x80000, "ram"), Slot(0x90000, 0x90010, "rom"))
    found = audit(replace(scenario, header=replace(scenario.header, memslots=slots)), POLICIES[4])
    assert [(f.range, f.type) for f in found.findings] == [(Range(0x90000, 0x90010), UC)]
    bare = replace(scenario, header=replace(scenario.header, memslots=()))
    assert audit(bare, POLICIES[4]).findings[-1].range == Range(0x80000, 0xC0000)


def test_verdicts() -> None:
    assert str(AuditVerdict("right", 0, None)) == "right"
    assert (
        str(audit(SCENARIOS["range-moves"], by_name("Base2")).verdict) == "stale (1 part, event 5)"
    )
    found = audit(SCENARIOS["cd-types-outlive-the-window"], by_name("v6.1")).verdict
    assert str(found) == "stale (2 parts, event 5)"


# ---- boots -------------------------------------------------------------------------------------


@pytest.mark.parametrize("vcpus", [1, 3, 16])
@pytest.mark.parametrize("boot", [guests.seabios, guests.ovmf])
def test_boots_are_right_under_every_row_from_base2_on(
    boot: Callable[[int], Trace], vcpus: int
) -> None:
    made = boot(vcpus)
    words = {p.name: audit(made, p).verdict.word for p in POLICIES}
    assert {name for name, word in words.items() if word == "stale"} == {"v6.1", "v6.7", "Base1"}
    assert set(words.values()) == {"stale", "right"}


@pytest.mark.parametrize("boot", [guests.seabios, guests.ovmf])
def test_boots_are_right_without_the_quirk(boot: Callable[[int], Trace]) -> None:
    host = Host(quirk_cd_nw_cleared=False)
    assert {audit(boot(4), policy, host).verdict.word for policy in POLICIES} == {"right"}


@pytest.mark.parametrize("boot", [guests.seabios, guests.ovmf])
def test_one_memslot_from_0_makes_a_boot_wrong_under_patches_10_and_12(
    boot: Callable[[int], Trace],
) -> None:
    made = boot(4)
    flat = replace(made, header=replace(made.header, memslots=(Slot(0, 0xC0000, "ram"),)))
    words = {name: audit(flat, by_name(name)).verdict.word for name in PATCH_12 | PATCH_10}
    stale = {"Base2+9+10+12", "Base2+9+10+11+12"}
    assert {name for name, word in words.items() if word == "stale"} == stale


def test_the_last_window_of_a_boot_leaves_cd_types_behind() -> None:
    """Linux clears CD after its last zap: under v6.1 all of memory may ignore the guest's PAT."""
    made = guests.seabios(4)
    found = [f for f in audit(made, by_name("v6.1")).defects if f.end is None]
    last = len(made.events) - 1
    assert {f.begin for f in found} == {last}
    assert sum(f.range.frames for f in found) == sum(s.end - s.start for s in guests.SLOTS)
    assert {(f.type, f.now) for f in found} == {
        (WB_IPAT, (WB,)),
        (WB_IPAT, (EptType(MemType.WP),)),
        (WB_IPAT, (UC,)),
    }


def test_most_requests_of_a_boot_find_nothing_stale() -> None:
    """Base2: of 42 requests of 8 vCPUs 12 clear an entry whose type nobody wants any more."""
    needs = audit(guests.seabios(8), by_name("Base2")).needs
    assert (len(needs), sum(need.needed > 0 for need in needs)) == (42, 12)


def test_a_guest_that_ran_already_begins_with_what_its_registers_held() -> None:
    """Leading held events are no change: nothing is stale. One in the middle is."""

    def held(vcpu: int) -> tuple[Event, ...]:
        msrs = [(0x2FF, 0xC06), (0x250, 0x0606060606060606)]
        return (
            Event(vcpu, Kind.HELD_CR0, 0, CLEAR),
            *(Event(vcpu, Kind.HELD_MSR, msr, value) for msr, value in msrs),
        )

    window = (cr0(CD), wrmsr(0x2FF, 0), wrmsr(0x2FF, 0xC06), cr0(CLEAR), wrmsr(0x277, 6, vcpu=1))
    running = trace(*held(0), *held(1), *window, vcpus=2)
    assert audit(running, by_name("Base2")).verdict == AuditVerdict("right", 0, None)
    assert audit(running, by_name("v6.1")).verdict.event == 9
    late = trace(*held(0), *window[:1], *held(1), *window[1:], vcpus=2)
    assert audit(late, by_name("Base2")).verdict.word == "window only"
