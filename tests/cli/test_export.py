"""``mtrrzap export``: requests in perfetto's JSON, and Parquet."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.cli import Run
from helpers.pages import long_trace, shipped
from helpers.traces import FINE, trace
from mtrrzap.errors import UserError
from mtrrzap.gfn import Range
from mtrrzap.guest import tabular
from mtrrzap.guest.tabular import COLUMNS
from mtrrzap.guest.trace import Trace, dumps, format_header
from mtrrzap.kvm.policy import POLICIES, by_name
from mtrrzap.kvm.replay import Host, Request, Why, replay
from mtrrzap.kvm.tdp import FullTable


def perfetto(run: Run, *args: str) -> list[dict[str, object]]:
    ran = run("export", "ovmf-8", "-f", "perfetto", *args)
    found: list[dict[str, object]] = json.loads(ran.out)["traceEvents"]
    return [item for item in found if item["pid"] == 2]


def test_requests_are_instants(run: Run) -> None:
    """A track a policy, an instant a request, with what it asks for."""
    found = perfetto(run)
    tracks = {
        item["tid"]: item["args"]["name"]  # type: ignore[index]
        for item in found
        if item["name"] == "thread_name"
    }
    assert tracks == {number: policy.name for number, policy in enumerate(POLICIES)}
    recorded = shipped("ovmf-8")
    for number, policy in enumerate(POLICIES):
        mine = [item for item in found if (item["ph"], item["tid"]) == ("i", number)]
        wanted = list(replay(recorded, policy, Host()))
        assert [item["ts"] for item in mine] == [float(request.event) for request in wanted]
        assert all(item["args"]["policy"] == policy.name for item in mine)  # type: ignore[index]
    # Nothing is timed, so nothing has a duration.
    assert not [item for item in found if item["ph"] == "X"]


def test_counters(run: Run) -> None:
    found = [item for item in perfetto(run, "-p", "Base2+9+10+12") if item["ph"] == "C"]
    so_far = [item["args"] for item in found if str(item["name"]).startswith("requests so far")]
    assert so_far == [{"requests": n} for n in range(75)]
    left = [item["args"]["leaves"] for item in found if "leaves" in item["args"]]  # type: ignore[index,operator]
    assert len(left) == 74
    recorded = shipped("ovmf-8")
    whole = FullTable(recorded.header, Host(), 1).leaves
    assert whole == sum(slot.end - slot.start for slot in recorded.header.memslots)
    assert all(0 <= count <= whole for count in left)


def test_leaves_left_count_what_two_ranges_share_once() -> None:
    header = replace(trace().header, memory=1 << 30, memslots=())
    table = FullTable(header, Host(), 1)
    walk = by_name("Base2").walk
    request = Request(0, 0, Why.CD_SET, (Range(0, 0x100), Range(0x80, 0x180)))
    assert table.leaves == 1 << 18
    assert table.left(request.ranges, walk) == (1 << 18) - 0x180
    assert table.left(request.ranges, walk) == (1 << 18) - 0x180
    assert table.cost([request], walk).leaves == 0x200
    assert table.left((), walk) == 1 << 18


def test_unknown_memory_has_no_counter_of_leaves(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.trace"
    made = trace(*FINE)
    header = replace(made.header, memory=0, memslots=())
    path.write_text(dumps(Trace(header, made.events)))
    found = json.loads(run("export", str(path), "-f", "perfetto").out)["traceEvents"]
    assert not [item for item in found if "leaves" in str(item["args"])]


def test_parquet_has_every_event(run: Run, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    assert run("export", "ovmf-8", "-f", "parquet", "-o", str(path)).status == 0
    table = parquet.read_table(path)
    recorded = shipped("ovmf-8")
    assert table.column_names == list(COLUMNS)
    assert table.num_rows == 1348
    for row, event in zip(table.to_pylist(), recorded.events, strict=True):
        assert (row["vcpu"], row["kind"], row["refused"]) == (event.vcpu, event.kind, event.refused)
        assert (row["msr"] or 0, row["value"] or 0) == (event.msr, event.value)
        assert row["time_ns"] == event.time_ns
    metadata = table.schema.metadata
    assert metadata[b"mtrrzap-trace"].decode() == format_header(recorded.header)
    assert metadata[b"mtrrzap-end"] == b"complete"


def test_parquet_keeps_times_and_64_bits() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    made = long_trace(100)
    events = (made.events[0]._replace(time_ns=2**64 - 1), *made.events[1:])
    table = parquet.read_table(io.BytesIO(tabular.parquet_bytes(Trace(made.header, events, "cut"))))
    assert table.column("time_ns")[0].as_py() == 2**64 - 1
    assert table.schema.metadata[b"mtrrzap-end"] == b"incomplete: cut"
    empty = parquet.read_table(io.BytesIO(tabular.parquet_bytes(trace())))
    assert (empty.num_rows, empty.column_names) == (0, list(COLUMNS))


def test_without_pyarrow(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ran = run("export", "ovmf-8", "-f", "parquet")
    assert ran.status == 2
    assert ran.err == ("mtrrzap: Parquet needs pyarrow; pip install 'mtrrzap[parquet]'\n")


def test_parquet_refuses_a_time_of_more_than_64_bits() -> None:
    pytest.importorskip("pyarrow")
    made = long_trace(2)
    events = (made.events[0]._replace(time_ns=10**20 - 1), made.events[1])
    with pytest.raises(UserError, match="more than 64 bits"):
        tabular.parquet_bytes(Trace(made.header, events))


def test_export_overwrites_only_by_force(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.trace"
    path.write_text(dumps(trace(*FINE)))
    for words in ((), ("--force",)):
        ran = run("export", str(path), "-f", "csv", "-o", str(path), *words)
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert "is also the file of FILE" in ran.err
    assert path.read_text() == dumps(trace(*FINE))
    out = tmp_path / "x.csv"
    assert run("export", str(path), "-f", "csv", "-o", str(out)).status == 0
    assert "exists already" in run("export", str(path), "-f", "csv", "-o", str(out)).err
    assert run("export", str(path), "-f", "csv", "-o", str(out), "--force").status == 0
