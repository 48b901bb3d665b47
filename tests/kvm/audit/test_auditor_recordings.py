"""The shipped recordings: verdicts, and what their zaps clear on a full page table."""

import pytest

from mtrrzap.guest.open import shipped
from mtrrzap.kvm.audit import audit
from mtrrzap.kvm.policy import POLICIES, by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.tdp import FullTable

RECORDINGS = dict(shipped())


@pytest.mark.parametrize(
    ("name", "event"),
    [("ovmf-8", 750), ("seabios-8", 723), ("ovmf-16", 1486), ("seabios-16", 1443)],
)
def test_only_rows_that_ignore_toggles_are_stale(name: str, event: int) -> None:
    verdicts = {p.name: str(audit(RECORDINGS[name], p).verdict) for p in POLICIES}
    stale = f"stale (2 parts, event {event})"
    before_patch_6 = {"v6.1", "v6.7", "Base1"}
    assert verdicts == {n: stale if n in before_patch_6 else "right" for n in verdicts}


@pytest.mark.parametrize("name", RECORDINGS)
def test_at_the_end_all_of_memory_may_ignore_the_guests_pat(name: str) -> None:
    """v6.1: the last window's CD types stay until the next MTRR write."""
    trace = RECORDINGS[name]
    left = [f for f in audit(trace, by_name("v6.1")).findings if f.end is None]
    assert {str(f.type) for f in left} == {"WB+IPAT"}
    assert sum(f.range.frames for f in left) == sum(s.end - s.start for s in trace.header.memslots)
    assert all(f.defect for f in left)


@pytest.mark.parametrize("name", RECORDINGS)
def test_vcpus_end_in_agreement(name: str) -> None:
    found = audit(RECORDINGS[name], by_name("Base2")).disagreements
    assert all(d.end is not None for d in found)


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("ovmf-16", (612_443_136, 125_931_008, 60_466, 2_482, 29_806)),
        ("seabios-8", (176_163_456, 100_670_592, 31_074, 714, 5_034)),
    ],
)
def test_entries(name: str, entries: tuple[int, ...]) -> None:
    trace = RECORDINGS[name]
    table = FullTable(trace.header, Host(), 1)
    rows = [by_name(row) for row in ("Base2", "+9+10+11", "+9+10+11+12", "+12", "+9+10+12")]
    assert tuple(table.cost(replay(trace, p), p.walk).entries for p in rows) == entries
