"""The page as rows and as HTML, without a browser."""

import base64
import hashlib
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.pages import HOSTILE, Page, hostile_trace, long_trace, page_of, shipped
from helpers.traces import FINE, cr0, trace
from mtrrzap.checker import asked
from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.check import Verdict
from mtrrzap.errors import UserError
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.policy import POLICIES, by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.windows import windows
from mtrrzap.report.page import MAX_EVENTS, section
from mtrrzap.report.page import figure as svg
from mtrrzap.report.page.markup import MAX_ROWS, Markup, data_block, el, table
from mtrrzap.report.page.section import MAX_MAPS, maps
from mtrrzap.report.page.timeline import LOOKS, Basis, events, requests
from mtrrzap.study import checked as study_checked
from mtrrzap.study.checked import checked


def data(page: Page) -> list[dict[str, object]]:
    block = next(t for name, a, t in page.elements if name == "script" and a.get("id") == "data")
    return list(json.loads("".join(block))["timelines"].values())


@pytest.mark.parametrize("name", ["seabios-8", "ovmf-8", "seabios-16", "ovmf-16"])
def test_as_many_marks_as_events(name: str) -> None:
    recorded = shipped(name)
    line = events(recorded, windows(recorded))
    assert len(line.marks) == len(line.lines) == len(recorded.events)
    assert [mark.track for mark in line.marks] == [event.vcpu for event in recorded.events]
    assert sum(line.looks().values()) == len(recorded.events)
    for position, event in enumerate(recorded.events):
        assert line.lines[position].startswith(f"{position}: {format_event(event)} · ")


def test_looks_of_ovmf() -> None:
    recorded = shipped("ovmf-8")
    line = events(recorded, windows(recorded))
    assert line.looks() == {
        "reset": 8,
        "init": 49,
        "cr0": 117,
        "def": 84,
        "var": 640,
        "fix": 441,
        "pat": 9,
    }
    assert sum(mark.host for mark in line.marks) == 448
    assert line.basis is Basis.COUNTED
    assert line.kinds() == {"cd": 34}


@pytest.mark.parametrize("policy", [policy.name for policy in POLICIES])
def test_as_many_marks_as_requests(policy: str) -> None:
    recorded = shipped("ovmf-8")
    row = by_name(policy)
    line = requests(recorded, windows(recorded), row, Host())
    assert [mark.at for mark in line.marks] == [r.event for r in replay(recorded, row, Host())]
    assert line.basis is Basis.COUNTED


def test_lines_say_what_an_event_does() -> None:
    made = trace(*FINE, cr0(0x60000011), Event(1, Kind.WRMSR, 0x2FF, 0x1C06))
    lines = events(made, windows(made)).lines
    assert lines[-1].endswith("DEF_TYPE = 0x1c06 · refused: bits 63:12 and 9:8 are reserved")
    assert lines[-2].endswith("CR0 = 0x60000011 · CD 0→1")


def test_maps_around_windows() -> None:
    recorded = shipped("ovmf-8")
    found = maps(recorded, windows(recorded))
    assert len(found.changes) == 34
    assert len(found.maps) == 5
    assert found.hidden == 0
    assert {change.before for change in found.changes[:8]} == {1}
    assert not found.maps[0].enabled
    assert found.changes[0].after == 2
    assert {change.after for change in found.changes[-8:]} == {5}


def test_maps_are_bounded() -> None:
    """A guest that changes a range in each of many windows."""
    one = [
        (cr0(0x60000011), Event(0, Kind.WRMSR, 0x200, 0x100000 + (n << 12)), cr0(0x11))
        for n in range(1, MAX_MAPS + 20)
    ]
    on = (Event(0, Kind.WRMSR, 0x201, 0xFFFFFFF800), Event(0, Kind.WRMSR, 0x2FF, 0xC06))
    made = trace(*on, *(event for each in one for event in each))
    found = maps(made, windows(made))
    assert len(found.maps) == MAX_MAPS
    assert found.hidden > 0
    assert found.changes[-1].after is None
    assert "further register states are not shown" in page_of(("many", made))


def test_marks_in_the_page() -> None:
    recorded = shipped("ovmf-8")
    page = Page(page_of(("ovmf-8", recorded)))
    marks = page.all("path", "m")
    assert len(marks) == 1348 + 74 + 74
    assert len(page.all("rect", "cd")) == 2 * 34
    assert len(page.all("rect", "zap")) == 74  # Base2: each request is a walk of its own
    assert len(page.all("figure", "timeline")) == 3
    # One way in per lane; the arrow keys do the rest.
    assert sum(mark.get("tabindex") == "0" for mark in marks) == 24
    first, second, third = data(page)
    assert len(first["lines"]) == 1348  # type: ignore[arg-type]
    assert len(second["lines"]) == 74  # type: ignore[arg-type]
    assert len(third["lines"]) == 74  # type: ignore[arg-type]
    assert first["times"] is None


def test_several_traces_have_sections_and_a_nav() -> None:
    text = page_of(("one", trace(*FINE)), ("two", shipped("seabios-8")))
    page = Page(text)
    idents = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(idents) == len(set(idents))
    links = [a["href"] for a in page.all("a")]
    assert {"#t0", "#t1", "#t1-policies", "#protocol"} <= set(links)
    assert all(str(link)[1:] in idents for link in links)
    assert len(page.all("path", "m")) == len(FINE) + 862 + 2 * sum(
        len(list(replay(t, by_name("Base2"), Host()))) for t in (trace(*FINE), shipped("seabios-8"))
    )


def test_every_figure_says_on_what_it_rests() -> None:
    page = Page(page_of(("ovmf-8", shipped("ovmf-8"))))
    words = {str(basis) for basis in Basis}
    badges = set(page.text("span", "basis"))
    assert badges == words  # all three are explained at the bottom
    captions = len(page.all("caption")) + len(page.all("figcaption"))
    # The timeline of zaps and waits, its sums, and the cost of every policy.
    assert page.text("span", "counted") == ["counted"] * (captions - 3 + 1 + 1)
    # Once at the bottom, and once for the writes that the recorder made up.
    assert page.text("span", "modelled") == ["modelled"] * (3 + 2)
    assert any("448 thin marks are writes by user space" in text for text in page.text("p"))
    # Once at the bottom, and once for the published cycles.
    assert page.text("span", "measured") == ["measured"] * 2


def test_nothing_is_fetched() -> None:
    text = page_of(("ovmf-8", shipped("ovmf-8")), policy="Base2+9")
    assert "://" not in text
    assert not re.search(r"\bsrc=|url\(|@import|<link|<iframe|fetch\(|XMLHttp|import\(", text)
    policy = next(
        str(meta["content"])
        for meta in Page(text).all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.endswith(f"script-src 'sha256-{digest}'")


def test_hostile_headers_are_text() -> None:
    plain = Page(page_of(("x", Trace(hostile_trace().header, hostile_trace().events))))
    text = page_of((HOSTILE, hostile_trace()))
    page = Page(text)
    assert len(page.all("script")) == 2
    assert not page.all("img")
    assert HOSTILE not in text
    assert page.text("h2")[0] == HOSTILE
    assert HOSTILE in "".join(page.text("p", "facts"))
    assert f"{HOSTILE}. Every figure is a lower bound." in page.text("p", "warning")
    assert len(page.all("path", "m")) == len(plain.all("path", "m"))


def test_a_page_of_3000_events_is_small() -> None:
    text = page_of(("long", long_trace()))
    assert len(text.encode()) < 5_000_000
    assert len(text.encode()) < 1_500_000  # as it is: a fifth of what it may be
    page = Page(text)
    count = len(list(replay(long_trace(), by_name("Base2"), Host())))
    assert len(page.all("path", "m")) == 3000 + 2 * count
    assert len(data(page)[0]["times"]) == 3000  # type: ignore[arg-type]


def test_an_empty_trace_has_a_page() -> None:
    page = Page(page_of(("empty", trace())))
    assert page.all("path", "m") == []
    assert any("requests nothing here" in text for text in page.text("p"))
    assert any("No update window" in text for text in page.text("p"))


def test_a_trace_may_be_too_long() -> None:
    header = trace().header
    made = Trace(header, (Event(0, Kind.INIT),) * (MAX_EVENTS + 1))
    with pytest.raises(UserError, match="50,001 events are more than a page can show"):
        section("x", made, POLICIES, by_name("Base2"), Host())


def test_the_protocol_s_counterexamples() -> None:
    found = {each.prop: each for each in checked(by_name("Base2+9")).properties}
    assert found["lost zap"].detail == "20 steps (2 vCPUs, 1 request each, allocation may fail)"
    assert found["lost zap"].counterexample is not None
    assert found["deadlock"].verdict == "holds"
    assert found["deadlock"].counterexample is None
    page = Page(page_of(("x", trace(*FINE)), policy="Base2+9"))
    assert len(page.all("details", "counterexample")) == 3
    assert "zap begin [" in "".join(page.text("pre"))
    assert len([d for d in page.all("details", "counterexample") if "open" in d]) == 1
    right = Page(page_of(("x", trace(*FINE))))
    assert "No counterexample was found." in right.text("p")


def test_the_protocol_is_checked_for_the_traces_own_requests() -> None:
    found = checked(by_name("review"), [trace(*FINE), trace()])
    assert "any of 5 requests" in found.configuration
    assert "any of" not in checked(by_name("review"), [trace()]).configuration
    assert "any of 2 requests" in checked(by_name("review"), [shipped("seabios-8")]).configuration
    page = Page(page_of(("x", trace(*FINE)), policy="review"))
    assert "any number of vCPUs that ask for ever" in "".join(page.text("caption"))


def test_two_vcpus_stand_in_for_a_proof_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(study_checked, "SECONDS", 1e-9)
    found = {each.prop: each for each in checked(by_name("ticket")).properties}
    assert found["lost zap"].verdict == "unknown"
    monkeypatch.setattr(study_checked, "SECONDS", 60)
    monkeypatch.setattr(asked.prove, "check", lambda proof, _: unproved(proof))
    found = {each.prop: each for each in checked(by_name("ticket")).properties}
    assert found["lost zap"].verdict == "holds"
    assert found["lost zap"].detail == (
        "with 2 vCPUs, one request each; for every number: unknown (limit of 1e-09 s)"
    )


def unproved(proof: Proof) -> list[Verdict]:
    why = "limit of 1e-09 s"
    return [Verdict(name, "unknown", why, proof.title(), 0, 0, 0.0) for name in proof.why]


def test_markup_escapes_what_is_none() -> None:
    assert el("p", "<b>", class_='a"b', data_x=None, hidden=True) == (
        '<p class="a&quot;b" hidden>&lt;b&gt;</p>'
    )
    assert el("p", Markup("<b>"), None, 3) == "<p><b>3</p>"
    assert json.loads(data_block({"a": HOSTILE})) == {"a": HOSTILE}
    assert "<" not in data_block(HOSTILE)


def test_long_tables_say_what_they_leave_out() -> None:
    made = table("c", ["a"], [[n] for n in range(MAX_ROWS + 7)])
    assert made.count("<tr>") == MAX_ROWS + 1
    assert "… and 7 more rows" in made


def test_every_look_can_be_drawn() -> None:
    assert [svg.swatch(look).count("<path") for look in LOOKS] == [1] * len(LOOKS)


NUMBERS = st.one_of(
    st.sampled_from((0, 6, 0xC00, 0xC06, 0x806, 0x800, 0xFFC0000800, 0xFF00FF0800, 0x60000011)),
    st.integers(0, 2**64 - 1),
)
EVENTS = st.builds(
    Event,
    st.integers(0, 3),
    st.sampled_from(Kind),
    st.sampled_from((0, 0x200, 0x201, 0x202, 0x203, 0x250, 0x26F, 0x277, 0x2FF, 0x17)),
    NUMBERS,
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 10**20 - 1)),
)


@settings(max_examples=40)
@given(st.lists(EVENTS, max_size=30), st.text(max_size=20), st.booleans())
def test_any_trace_has_a_page(found: list[Event], words: str, timed: bool) -> None:
    """Whatever the events: no exception, balanced tags, a mark each."""
    if timed:
        found = [event._replace(time_ns=event.time_ns or 0) for event in found]
    header = replace(trace().header, firmware=words, notes=(words,))
    made = Trace(header, tuple(found), words)
    page = Page(page_of((words, made), policy="v6.1"))
    asked = len(list(replay(made, by_name("v6.1"), Host())))
    assert len(page.all("path", "m")) == len(found) + 2 * asked
    assert [line.partition(":")[0] for line in data(page)[0]["lines"]] == [  # type: ignore[attr-defined]
        str(n) for n in range(len(found))
    ]


def test_many_vcpus_share_lanes() -> None:
    """Nothing is modelled of them, and the page says so; every event has its mark."""
    count = 300
    writes = (Event(vcpu, Kind.CR0, 0, 0x11) for vcpu in range(count))
    header = replace(shipped("ovmf-8").header, vcpus=count)
    page = Page(page_of(("many", Trace(header, tuple(writes))), policy="Base2+9"))
    lanes = page.text("ol", "labels")
    assert len(lanes) == 2  # events, requests
    labels = page.text("li")
    assert labels.count("vCPUs 0-2") == labels.count("vCPUs 297-299") == 2
    assert len([mark for mark in page.all("path", "m") if "cr0" in str(mark["class"])]) == count
    said = " ".join(page.text("figcaption") + page.text("p"))
    assert said.count("each lane has 3 of them") == 2
    assert said.count("Not modelled: a page models guests of up to 256 vCPUs") == 2
