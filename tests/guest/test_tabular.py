"""A trace as CSV: line for line, there and back."""

import csv
import io
from dataclasses import replace

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from helpers.traces import HEADER, events
from mtrrzap.errors import UserError
from mtrrzap.guest import tabular
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.tabular import csv_lines, parquet_bytes, read_csv, read_parquet
from mtrrzap.guest.trace import Trace, dumps

WRITE = Event(1, Kind.WRMSR, 0x2FF, 0xC06, refused=True, time_ns=5)
GOOD = "".join(csv_lines(Trace(HEADER, (Event(0, Kind.RESET), WRITE))))


@given(st.lists(events, max_size=20), st.none() | st.just("a reason: with a colon"))
def test_round_trip(body: list[Event], incomplete: str | None) -> None:
    trace = Trace(HEADER, tuple(body), incomplete)
    as_csv = list(csv_lines(trace))
    assert read_csv(as_csv, "t") == trace
    assert len(as_csv) == len(dumps(trace).splitlines())


@settings(max_examples=500)
@given(st.text("ab,;=+-@\"' ", max_size=12))
def test_no_text_of_a_header_is_a_formula(text: str) -> None:
    """Neither in a spreadsheet that splits at commas nor in one that splits at semicolons."""
    note = " ".join(text.split())
    trace = Trace(replace(HEADER, notes=(note, "=1")), (), f"x,=1 {note}".strip())
    lines = list(csv_lines(trace))
    assert read_csv(lines, "t") == trace
    for delimiter in ",;":
        for row in csv.reader(lines, delimiter=delimiter):
            assert not [cell for cell in row if cell.lstrip().startswith(tuple("=+-@"))]


def test_a_damaged_parquet_file_is_an_error_or_a_trace() -> None:
    """Arrow reports some damage as an OSError without a number."""
    whole = parquet_bytes(Trace(HEADER, (WRITE,)))
    errors = 0
    for position in range(0, len(whole), 13):
        data = bytearray(whole)
        data[position] ^= 0x55
        try:
            read_parquet(bytes(data), "t")
        except UserError:
            errors += 1
    assert errors > len(whole) // 26
    with pytest.raises(UserError, match="not a Parquet file of a trace"):
        read_parquet(whole[:-20], "t")


def test_rows() -> None:
    assert GOOD.splitlines()[-4:] == [
        "vcpu,kind,msr,value,refused,time_ns",
        "0,reset,,,0,",
        "1,wrmsr,0x2ff,0xc06,1,5",
        "# end 2 complete",
    ]
    assert read_csv(GOOD.replace("\n", "\r\n").splitlines(keepends=True), "t").events[1] == WRITE


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("1,wrmsr,", "1,wrmsr,1,", 17, "not a row of 6 cells"),
        ("1,wrmsr,", "1,wr msr,", 17, "not a row of 6 cells"),
        ("1,wrmsr,", "1,write,", 17, "unknown event: '1 write 0x2ff 0xc06 #GP @5'"),
        (",1,5", ",yes,5", 17, "invalid refused: 'yes'"),
        ("0,reset,,,0,", '0,"reset,,,0,', 16, "not a row of 6 cells"),
        ("# vcpus: 4", "# vcpus: 1", 17, "vCPU 1 in a trace of 1 vCPUs"),
        ("# end 2 complete\n", "", 17, "without an 'end' line"),
        ("# end 2", "# end 1", 18, "counts 1 events, the trace has 2"),
    ],
)
def test_errors_name_the_line(old: str, new: str, line: int, problem: str) -> None:
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        read_csv(GOOD.replace(old, new).splitlines(keepends=True), "a.csv")
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"a.csv:{line}")


def test_parquet_files_that_stand_for_much_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is stored once however often it is there, and rows that are alike take no bytes."""
    made = parquet.read_table(io.BytesIO(parquet_bytes(Trace(HEADER, (WRITE,) * 3))))
    long = pyarrow.array(["wrmsr" * 10_000] * 3)
    for column in ("kind", "msr"):
        stream = io.BytesIO()
        at = made.schema.get_field_index(column)
        parquet.write_table(made.set_column(at, column, long), stream)
        with pytest.raises(UserError, match="not a Parquet file of a trace"):
            read_parquet(stream.getvalue(), "t")
    monkeypatch.setattr(tabular, "MAX_EVENTS", 2)
    stream = io.BytesIO()
    parquet.write_table(made, stream)
    with pytest.raises(UserError, match=r"^t: more than 2 events; cut the trace"):
        read_parquet(stream.getvalue(), "t")
    with pytest.raises(UserError, match=r"^t: more than 2 events; cut the trace"):
        list(tabular.at_most(csv_lines(Trace(HEADER, (WRITE,) * 3)), "t"))
