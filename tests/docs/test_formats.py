"""Each form that is read has a row on a page, with a command and a line; the line is read."""

import re

import pytest

from helpers.captures import imported
from helpers.paths import ROOT
from mtrrzap.guest import listing
from mtrrzap.guest.event import Kind
from mtrrzap.guest.importer import Known

LISTINGS = (ROOT / "docs/memtype.md").read_text().partition("## What is read")[2]
CAPTURES = (ROOT / "docs/capture.md").read_text().partition("## What the lines look like")[2]
ROW = re.compile(r"^\| (?P<name>.+?) \| (?P<command>.+?) \| `(?P<line>[^`]*)` \|$", re.MULTILINE)
LINES = re.findall(r"^(\S.*?)  +(\S.*)$", CAPTURES.split("```")[1], re.MULTILINE)


def test_every_format_of_a_listing_has_a_command_and_a_line() -> None:
    rows = ROW.finditer(LISTINGS)
    assert {re.findall(r"`([\w-]+)`", row["name"])[0] for row in rows} == set(listing.FORMATS)


@pytest.mark.parametrize(("name", "line"), LINES)
def test_the_lines_of_captures_are_read(name: str, line: str) -> None:
    trace = imported(f"{line}\n".encode())
    found = [(e.vcpu, e.value) for e in trace.events if e.kind is not Kind.RESET]
    assert found == [(0, 0x11)], name


def test_the_one_liner_prints_the_line_of_its_row() -> None:
    """With what its printf says of the fields, the line that bpftrace would print is read."""
    page = (ROOT / "docs/capture.md").read_text()
    formats = re.findall(r'printf\("(nsecs=[^"]*)\\n"', page)
    assert len(formats) == 2
    line = formats[1].replace("%llu", "26930000000").replace("%d", "151")
    line = line.replace("%s", "CPU 0/KVM", 1).replace("%s", "write", 1).replace("%llx", "11")
    assert line in dict(LINES).values()
    msr = formats[0].replace("%llu", "26930000100").replace("%d", "151")
    for word in ("CPU 0/KVM", "wrmsr"):
        msr = msr.replace("%s", word, 1)
    msr = msr.replace("%x", "2ff").replace("%llx", "c06").replace("%s", "")
    trace = imported(f"{line}\n{msr}\n".encode(), Known())
    assert [e.msr for e in trace.events if e.kind is Kind.WRMSR] == [0x2FF]
