"""The trace format: round trips, strictness, and the place named by each error."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.traces import GOOD, HEADER, events
from mtrrzap.errors import UserError
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Header, Trace, Writer, dumps
from mtrrzap.guest.trace_reader import Reader, parse

text = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20)


def lines(trace_text: str) -> list[str]:
    return trace_text.splitlines(keepends=True)


@given(st.lists(events, max_size=30), st.none() | text.filter(bool), text)
def test_round_trip(body: list[Event], incomplete: str | None, note: str) -> None:
    header = Header(**{f: getattr(HEADER, f) for f in HEADER.__slots__} | {"notes": (note,)})
    trace = Trace(header, tuple(body), incomplete)
    assert parse(lines(dumps(trace)), "t") == trace


def test_writer_writes_what_dumps_writes() -> None:
    body = (Event(0, Kind.RESET), Event(1, Kind.WRMSR, 0x2FF, 0xC06, refused=True, time_ns=5))
    stream = io.StringIO()
    writer = Writer(stream, HEADER)
    for event in body:
        writer.write(event)
    writer.end("the guest\nhung")
    assert stream.getvalue() == dumps(Trace(HEADER, body, "the guest hung"))
    assert stream.getvalue().endswith(
        "\n0 reset\n1 wrmsr 0x2ff 0xc06 #GP @5\nend 2 incomplete: the guest hung\n"
    )


FIRST_EVENT = GOOD.index("0 reset")
LINE = GOOD[:FIRST_EVENT].count("\n") + 1


def test_every_header_key_is_needed() -> None:
    keys = re.findall(r"^([a-z-]+):", GOOD, re.MULTILINE)
    needed = [key for key in keys if key not in ("memslot", "note")]
    assert len(needed) == 10
    for key in needed:
        without = re.sub(rf"^{key}: .*\n", "", GOOD, flags=re.MULTILINE)
        with pytest.raises(UserError, match=f"lacks '{key}'"):
            parse(lines(without), "t")


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("mtrrzap-trace 1", "mtrrzap-trace 3", 1, "unknown trace format version 3"),
        ("mtrrzap-trace 1", "CPU 0/KVM-264", 1, "not a trace"),
        ("vcpus: 4", "vcpus: four", 4, "not a decimal number"),
        ("vcpus: 4", "vcpus: 0", 4, "not in 1..4096"),
        ("vcpus: 4", "colour: 4", 4, "unknown header key 'colour'"),
        ("vcpus: 4", "machine: 4", 7, "second header key 'machine'"),
        ("vcpus: 4", "vcpus 4", 4, "not a header line"),
        ("0xa0 ram", "0xa0 rum", 12, "not a memslot"),
        ("0x0 0xa0", "0xa0 0xa0", 12, "is empty"),
        ("0 reset", "0 reboot", LINE, "unknown event"),
        ("0 reset", "", LINE, "unknown event"),
        ("0 reset", "@1", LINE, "unknown event"),
        ("0 reset", "#GP @1", LINE, "unknown event"),
        ("0 reset", "0 reset 1", LINE, "malformed event"),
        ("0 reset", "0 init #GP", LINE, "malformed event"),
        ("0 reset", "0 init @x", LINE, "not a time stamp"),
        ("0 reset", "4 reset", LINE, "vCPU 4 in a trace of 4 vCPUs"),
        ("0 reset", "\u0661 reset", LINE, "not a vCPU number"),
        ("cr0 0x11", "cr0 11", LINE + 1, "invalid 64-bit hex number"),
        ("cr0 0x11", "cr0 0x1_1", LINE + 1, "invalid 64-bit hex number"),
        ("cr0 0x11", "cr0 0x10000000000000000", LINE + 1, "invalid 64-bit hex number"),
        ("cr0 0x11", "wrmsr 0x100000000 0x0", LINE + 1, "more than 32 bits"),
        ("cr0 0x11", "host-wrmsr 0x2ff 0x0 #GP", LINE + 1, "malformed event"),
        ("end 2 complete\n", "", LINE + 1, "without an 'end' line"),
        ("end 2 complete\n", "end 2 comp", LINE + 2, "last line is cut short"),
        ("end 2 complete\n", "end 2 perhaps\n", LINE + 2, "malformed end"),
        ("end 2 complete\n", "end 3 complete\n", LINE + 2, "counts 3 events, the trace has 2"),
        ("end 2 complete\n", "end 2 complete\n0 reset\n", LINE + 3, "text after the end"),
        ("end 2 complete\n", "end 2 complete at last\n", LINE + 2, "malformed end"),
        ("cr0 0x11", "cr0 0x11\t", LINE + 1, "invalid 64-bit hex number"),
        ("cr0 0x11", "cr0 0x\uff11", LINE + 1, "invalid 64-bit hex number"),
        ("cr0 0x11", "cr0 0x11\r", LINE + 1, "a carriage return"),
        ("a note: with", "a \udcff note", 14, "bytes that are not UTF-8"),
        ("2026-11-23", "potato", 9, "not a date"),
        ("2026-11-23", "2026-02-30", 9, "not a date: '2026-02-30'"),
        ("2026-11-23", "0000-01-01", 9, "not a date"),
        ("2026-11-23", "2025-02-29", 9, "not a date"),
        ("SeaBIOS 1.16.2", "", 2, "the firmware has no name"),
        ("0xe0 0x100 rom", "0x9f 0x100 rom", 15, "two memslots overlap"),
    ],
)
def test_errors_name_the_line(old: str, new: str, line: int, problem: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(UserError) as caught:
        parse(lines(GOOD.replace(old, new)), "boot.trace")
    message = str(caught.value)
    assert message.startswith(f"boot.trace:{line}: ")
    assert problem in message
    assert "; " in message
    assert "\n" not in message


def test_every_truncation_is_an_error() -> None:
    """No prefix of a trace reads as a trace."""
    for cut in range(len(GOOD)):
        with pytest.raises(UserError):
            parse(lines(GOOD[:cut]), "t")


def test_reading_streams() -> None:
    """The events come out as the lines go in; nothing is read ahead."""
    source = iter(lines(GOOD))
    reader = Reader(source, "t")
    iterator = iter(reader)
    assert next(iterator) == Event(0, Kind.RESET)
    assert next(source) == "0 cr0 0x11\n"


@given(st.text(max_size=200))
def test_any_text_is_a_user_error(noise: str) -> None:
    for candidate in (noise, GOOD[:FIRST_EVENT] + "noise" + noise):
        with pytest.raises(UserError):
            parse(io.StringIO(candidate), "t")
