"""The shipped recordings: the published request counts, and what the firmware is known to do.

The counts are those of the table in v4's cover letter, read from data/published.csv and compared
with what a replay of the recordings gives; no code knows them.
"""

import csv
import re
from importlib.resources import files

import pytest

from mtrrzap.guest.event import Kind
from mtrrzap.guest.open import shipped
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.lookup import variable_bounds, variable_ranges
from mtrrzap.kvm.policy import POLICIES, Ask, by_name
from mtrrzap.kvm.replay import replay, total
from mtrrzap.kvm.windows import states
from mtrrzap.study.trace_summary import final_states, groups, summaries

RECORDINGS = dict(shipped())
PUBLISHED = [
    (row["guest"], int(row["vcpus"]), row["row"], int(row["zap_requests"]))
    for row in csv.DictReader(
        files("mtrrzap").joinpath("data/published.csv").read_text(encoding="utf-8").splitlines()
    )
]


def recording(family: str, vcpus: int) -> Trace:
    return RECORDINGS[f"{family.lower()}-{vcpus}"]


def test_four_recordings_ship() -> None:
    assert {(t.header.family, t.header.vcpus) for t in RECORDINGS.values()} == {
        ("SeaBIOS", 8),
        ("SeaBIOS", 16),
        ("OVMF", 8),
        ("OVMF", 16),
    }
    assert all(trace.incomplete is None for trace in RECORDINGS.values())
    assert all(trace.header.memory == 16 << 30 for trace in RECORDINGS.values())
    assert all(trace.header.memslots for trace in RECORDINGS.values())


def test_there_are_32_published_counts() -> None:
    assert len(PUBLISHED) == 32
    assert {row for _, _, row, _ in PUBLISHED} <= {policy.name for policy in POLICIES}


@pytest.mark.parametrize(("family", "vcpus", "row", "count"), PUBLISHED)
def test_published_request_counts(family: str, vcpus: int, row: str, count: int) -> None:
    assert total(replay(recording(family, vcpus), by_name(row))).requests == count


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_counts_do_not_depend_on_the_split_or_the_lock(name: str) -> None:
    """Every later row has Base2's count; v6.1 and v6.7 have Base1's; v6.11 asks for nothing."""
    counts = {p.name: total(replay(RECORDINGS[name], p)).requests for p in POLICIES}
    like_base2 = {p.name for p in POLICIES if p.cd_toggle is Ask.ALWAYS}
    assert len(like_base2) == 10
    assert {counts[row] for row in like_base2} == {counts["Base2"]}
    assert counts["v6.1"] == counts["v6.7"] == counts["Base1"]
    assert counts["v6.11"] == 0


@pytest.mark.parametrize("name", RECORDINGS)
def test_all_vcpus_end_alike(name: str) -> None:
    trace = RECORDINGS[name]
    assert [group.vcpus for group in groups(trace)] == [tuple(range(trace.header.vcpus))]


@pytest.mark.parametrize("name", RECORDINGS)
def test_host_writes(name: str) -> None:
    """Two puts of 28 MTRRs on every vCPU, all zero, before the guest runs."""
    trace = RECORDINGS[name]
    host = [event for event in trace.events if event.kind is Kind.HOST_WRMSR]
    assert len(host) == 2 * 28 * trace.header.vcpus
    assert {event.value for event in host} == {0}
    first_guest = next(
        n for n, e in enumerate(trace.events) if e.kind in (Kind.WRMSR, Kind.CR0, Kind.INIT)
    )
    assert all(event.kind is not Kind.HOST_WRMSR for event in trace.events[first_guest:])


def test_cd_toggles() -> None:
    """SeaBIOS: 1 by the firmware, 2 by Linux's window; the BSP has Linux's PAT window too.

    OVMF: 1 + 3 windows on each vCPU, then Linux's as above.
    """
    for vcpus in (8, 16):
        toggles = [row.cd_toggles for row in summaries(recording("SeaBIOS", vcpus))]
        assert toggles == [5] + [3] * (vcpus - 1)
        toggles = [row.cd_toggles for row in summaries(recording("OVMF", vcpus))]
        assert toggles == [11] + [9] * (vcpus - 1)


@pytest.mark.parametrize("name", RECORDINGS)
def test_only_init_and_reset_touch_cr0_behind_the_guests_back(name: str) -> None:
    """No event is refused by KVM's rules: what the guest wrote, KVM takes."""
    trace = RECORDINGS[name]
    assert sum(1 for _ in states(trace)) == len(trace.events)


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_guest_saw_the_same(name: str) -> None:
    """/proc/mtrr, as the recorded Linux printed it, has the final variable ranges of vCPU 0."""
    text = files("mtrrzap").joinpath(f"data/recordings/{name}.proc-mtrr").read_text("utf-8")
    seen = [
        (int(match[1], 16), int(match[2]) << 20)
        for match in re.finditer(r"base=(0x\w+) .* size= *(\d+)MB, count=1: uncachable", text)
    ]
    assert len(seen) == {"SeaBIOS": 1, "OVMF": 2}[RECORDINGS[name].header.family]
    mtrrs = final_states(RECORDINGS[name])[0].mtrrs
    assert seen == [
        (start, end - start)
        for number in range(8)
        if mtrrs.valid(number)
        for start, end in [variable_bounds(mtrrs, number)]
    ]
    assert {r.type for r in variable_ranges(mtrrs)} == {0}
