"""The modelled parts of the page: spans and sums are the simulator's, and all of them say so."""

from dataclasses import replace

import pytest

from helpers.pages import Page, page_of, shipped
from helpers.traces import FINE, trace
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import POLICIES, by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.report.page import section
from mtrrzap.report.page.modelled import EVERY_STRETCH, STEPS, shares, timeline
from mtrrzap.report.page.render_modelled import costs, served
from mtrrzap.report.page.timeline import Basis
from mtrrzap.simulator import Guest, Result, cost_model, simulate
from mtrrzap.study.units import with_unit


def result(made: Trace, policy: str) -> Result:
    guest = Guest.of(made, Host(), 1, cost_model.costs())
    return simulate(guest, by_name(policy), replay(made, by_name(policy), Host()))


@pytest.mark.parametrize("policy", [policy.name for policy in POLICIES])
def test_spans_are_the_zaps_and_waits(policy: str) -> None:
    recorded = shipped("ovmf-8")
    found = result(recorded, policy)
    line = timeline(recorded, by_name(policy), found)
    assert line.basis is Basis.MODELLED
    assert len(line.marks) == len(line.lines) == len(found.served)
    assert line.kinds().get("zap", 0) == sum(s.zaps for s in found.served)
    assert line.length <= STEPS + 1
    for mark, text in zip(line.marks, line.lines, strict=True):
        assert 0 <= mark.at < line.length
        assert " · modelled: " in text
    for span in line.spans:
        assert 0 <= span.first <= span.last < line.length
        assert span.line is not None
        assert line.marks[span.line].track == span.track
        assert line.marks[span.line].at <= span.first
    # A span is as long as what it shows, to a place.
    longest = max((p.end - p.begin for s in found.served for p in s.stretches), default=0.0)
    drawn = max(((s.last - s.first + 1) * line.unit * 1e6 for s in line.spans), default=0.0)
    assert drawn == pytest.approx(longest, abs=2e6 * line.unit)


def test_a_line_tells_who_waited_for_whom() -> None:
    recorded = shipped("ovmf-8")
    found = result(recorded, "+9")
    lines = timeline(recorded, by_name("+9"), found).lines
    in_order = sorted(found.served, key=lambda s: (s.begin, s.vcpu))
    for text, s in zip(lines, in_order, strict=True):
        assert text.startswith(f"{s.event}: {s.vcpu} cr0 0x")
        assert text.count("zaps [0x0, 0x400000000), ") == s.zaps  # cut at 46 bits
        for part in s.stretches:
            took = with_unit(part.end - part.begin)
            assert part.range or f"waits for vCPU {part.waited_for}, {took}" in text
    many = timeline(recorded, by_name("+9+10+11"), result(recorded, "+9+10+11")).lines
    assert all(text.count("zaps ") + text.count("waits ") <= EVERY_STRETCH for text in many)
    assert any(text.endswith(" more") for text in many)


def test_shares_add_up() -> None:
    recorded = shipped("seabios-16")
    found = result(recorded, "+9")
    each = shares(recorded, found)
    assert [share.vcpu for share in each] == list(range(16))
    assert sum(share.requests for share in each) == 82
    assert sum(share.walks for share in each) == sum(s.zaps for s in found.served)
    assert sum(share.spent.total for share in each) == pytest.approx(found.cycles)


def test_every_modelled_figure_is_printed_with_its_error() -> None:
    factor = f"accurate to within a factor of {cost_model.error_factor():.2f}"
    made = section("ovmf-8", shipped("ovmf-8"), POLICIES, by_name("+9"), Host())
    for part in (served(made, 0), costs(made, 0)):
        assert factor in part
        assert "nothing vouches" not in part
    page = Page(page_of(("ovmf-8", shipped("ovmf-8")), policy="+9"))
    assert page.text("em") == ["events", "events", "modelled Mcycles"]


def test_published_cycles_stand_beside_a_published_guest_only() -> None:
    made = section("ovmf-8", shipped("ovmf-8"), POLICIES, by_name("+9"), Host())
    assert "4,241.46" in costs(made, 0)
    other = section("x", trace(*FINE), POLICIES, by_name("+9"), Host())
    assert "published" not in costs(other, 0).replace("published figures", "")


def test_a_guest_larger_than_any_published() -> None:
    small = shipped("ovmf-16")
    many = Trace(replace(small.header, vcpus=17), small.events)
    made = section("x", many, POLICIES, by_name("+9"), Host())
    for part in (served(made, 0), costs(made, 0)):
        assert "Nothing is published for 17 vCPUs" in part


def test_a_guest_whose_memory_is_unknown() -> None:
    small = shipped("seabios-8")
    bare = Trace(replace(small.header, memory=0, memslots=()), small.events)
    made = section("x", bare, POLICIES, by_name("+9"), Host())
    known = section("x", small, POLICIES, by_name("+9"), Host())
    for part in (served, costs):
        assert "memory is unknown" in part(made, 0)
        assert "memory is unknown" not in part(known, 0)


def test_a_policy_that_asks_for_nothing() -> None:
    made = section("x", shipped("ovmf-8"), POLICIES, by_name("v6.11"), Host())
    assert "v6.11 requests nothing" in served(made, 0)
    assert page_of(("x", trace(FINE[0])), policy="+9").count("requests nothing") == 2


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0.0, "0 cycles"),
        (519.4, "519 cycles"),
        (1235.0, "1.24 kcycles"),
        (3.311e6, "3.31 Mcycles"),
        (1.07e9, "1,070 Mcycles"),
    ],
)
def test_three_digits(count: float, text: str) -> None:
    assert with_unit(count) == text
