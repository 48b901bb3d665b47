"""``mtrrzap import`` and ``export``: files in, files out, and the one error line."""

import csv
import gzip
import io
import json
import lzma
import shutil
import sys
from pathlib import Path

import pytest

from helpers.captures import ENABLE, FOLDER, POWER_ON, line, text
from helpers.cli import Run
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Trace, dumps
from mtrrzap.guest.trace_reader import parse

BOOT = FOLDER / "all-events-trace.txt.xz"
needs_trace_cmd = pytest.mark.skipif(
    shutil.which("trace-cmd") is None, reason="trace-cmd is not installed: no trace.dat can be read"
)


def read(path: Path) -> Trace:
    return parse(path.read_text().splitlines(keepends=True), str(path))


@pytest.fixture
def boot(run: Run, tmp_path: Path) -> Path:
    """Return the trace of a real boot."""
    out = tmp_path / "boot.trace"
    assert run("import", str(BOOT), "-o", str(out)).status == 0
    return out


def test_import_keeps_the_costs_beside_the_trace(run: Run, boot: Path) -> None:
    costs = list(csv.DictReader((boot.parent / "boot.costs.csv").open()))
    events = read(boot).events
    assert len(costs) == 68
    assert all(events[int(row["event"])].value == int(row["value"]) for row in costs)
    shown = run("import", str(BOOT), "-o", str(boot), "--force").out
    assert "DEF_TYPE │     10 │" in shown
    assert "68 MTRR writes took 10958 us in all, median" in shown


def test_import_overwrites_only_by_force(run: Run, boot: Path, tmp_path: Path) -> None:
    before = boot.read_bytes()
    ran = run("import", str(BOOT), "-o", str(boot))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == (
        f"mtrrzap: --output: {boot} exists already; choose another name, or add --force\n"
    )
    assert boot.read_bytes() == before
    costs = boot.parent / "boot.costs.csv"
    boot.unlink()
    assert "boot.costs.csv exists already" in run("import", str(BOOT), "-o", str(boot)).err
    # A capture without exits has no costs: those of the trace before it would not fit.
    other = FOLDER / "report.txt.xz"
    assert run("import", str(other), "-o", str(boot), "--force").status == 0
    assert not costs.exists()
    mine = tmp_path / "mine.txt"
    mine.write_bytes(POWER_ON + ENABLE)
    ran = run("import", str(mine), "-o", str(mine), "--force")
    assert "is also the file of FILE" in ran.err
    assert mine.read_bytes() == POWER_ON + ENABLE


@pytest.mark.parametrize(
    ("text", "count"), [("0", 0), ("0G", 0), ("512M", 1 << 29), ("16g", 1 << 34)]
)
def test_sizes_of_memory(run: Run, tmp_path: Path, text: str, count: int) -> None:
    out = tmp_path / "a.trace"
    assert (
        run("import", str(FOLDER / "report.txt.xz"), "-o", str(out), "--memory", text).status == 0
    )
    assert read(out).header.memory == count


@pytest.mark.parametrize(
    "text", ["-1G", "1", "4096", "xG", "9999999T", "G", "", "\u0663G", "9" * 5000]
)
def test_what_is_no_size_of_memory(run: Run, tmp_path: Path, text: str) -> None:
    out = tmp_path / "a.trace"
    ran = run("import", str(FOLDER / "report.txt.xz"), "-o", str(out), "--memory", text)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert not out.exists()


def test_show_prints_what_a_capture_cannot_show(run: Run, boot: Path) -> None:
    shown = run("show", str(boot)).out
    assert "what user space writes through ioctls" in shown
    assert "vCPUs were identified by the thread's name" in shown
    assert "bytes" not in shown.split("Events per vCPU")[0]


@needs_trace_cmd
def test_trace_dat_gives_the_same_trace_as_its_text(run: Run, tmp_path: Path) -> None:
    for name in ("report.txt.xz", "trace.dat.xz"):
        assert run("import", str(FOLDER / name), "-o", str(tmp_path / name)).status == 0
    left, right = (tmp_path / name for name in ("report.txt.xz", "trace.dat.xz"))
    of_dat = right.read_text().replace("import trace.dat.xz", "import report.txt.xz")
    date = [f"date: {read(path).header.date}" for path in (right, left)]
    assert of_dat.replace(*date) == left.read_text()
    plain = tmp_path / "plain.dat"
    plain.write_bytes(lzma.decompress((FOLDER / "trace.dat.xz").read_bytes()))
    assert run("import", str(plain), "-o", str(tmp_path / "plain.trace")).status == 0
    assert read(tmp_path / "plain.trace").events == read(left).events


def test_trace_dat_without_trace_cmd(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    ran = run("import", str(FOLDER / "trace.dat.xz"), "-o", "/nowhere")
    assert ran.status == 2
    assert "a trace.dat needs trace-cmd, which is not installed; install trace-cmd" in ran.err


@pytest.mark.parametrize("name", ["all-events-trace", "overwritten-ftrace-buffer"])
def test_import_export_import_is_the_identity(run: Run, tmp_path: Path, name: str) -> None:
    first, table, second = (tmp_path / part for part in ("a.trace", "a.csv", "b.trace"))
    assert run("import", str(FOLDER / f"{name}.txt.xz"), "-o", str(first)).status == 0
    assert run("export", str(first), "--format", "csv", "-o", str(table)).status == 0
    assert run("import", str(table), "-o", str(second)).status == 0
    assert second.read_text() == first.read_text()


def test_csv_is_what_a_data_frame_wants(run: Run, boot: Path) -> None:
    lines = run("export", str(boot), "--format", "csv").out.splitlines()
    rows = list(csv.DictReader(row for row in lines if not row.startswith("#")))
    events = read(boot).events
    assert len(rows) == len(events) == 83
    assert rows[0] == {
        "vcpu": "0",
        "kind": "reset",
        "msr": "",
        "value": "",
        "refused": "0",
        "time_ns": "0",
    }
    assert [row["kind"] for row in rows] == [event.kind.value for event in events]


def test_two_vms_make_two_traces(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [line("kvm_cr: cr_write 0 = 0x11", tid=tid, us=tid) for tid in (5, 6)]
    (tmp_path / "two.txt").write_bytes(b"".join(names))
    listed = run("import", "two.txt", "--list")
    assert (listed.status, listed.out.count("5:0"), listed.out.count("6:0")) == (0, 1, 1)
    assert not list(tmp_path.glob("*.trace"))
    assert run("import", "two.txt").status == 0
    assert sorted(path.name for path in tmp_path.glob("*.trace")) == [
        "two-vm0.trace",
        "two-vm1.trace",
    ]
    assert run("import", "two.txt", "--vm", "1", "-o", "one.trace").status == 0
    assert read(tmp_path / "one.trace").events == (Event(0, Kind.HELD_CR0, 0, 0x11, False, 0),)
    assert run("import", "two.txt", "--vm", "2").err.startswith("mtrrzap: --vm: no VM 2;")


def test_what_the_user_knows_goes_into_the_header(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a.trace"
    known = (
        "--firmware",
        "SeaBIOS 1.16.2",
        "--memory",
        "512M",
        "--vcpus",
        "4",
        "--maxphyaddr",
        "39",
    )
    assert run("import", str(BOOT), "-o", str(out), *known, "--start", "running").status == 0
    header = read(out).header
    assert (header.family, header.memory, header.vcpus, header.maxphyaddr) == (
        "SeaBIOS",
        512 << 20,
        4,
        39,
    )


def test_gzip_and_standard_input(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = tmp_path / "capture.gz"
    packed.write_bytes(gzip.compress(POWER_ON + ENABLE, mtime=0))
    out = tmp_path / "a.trace"
    assert run("import", str(packed), "-o", str(out)).status == 0
    assert len(read(out).events) == 2
    stream = io.TextIOWrapper(io.BufferedReader(io.BytesIO(packed.read_bytes())))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", stream)
    assert run("import", "-", "-o", str(out), "--force").status == 0
    assert read(out).header.command == "mtrrzap import -"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"PERFILE2" + bytes(100), "a perf.data, which only perf can read"),
        (b"\x28\xb5\x2f\xfd" + bytes(9), "compressed by zstd"),
        (lzma.compress(bytes(10000))[:40], "the compressed data ends early"),
        (b"\xfd7zXZ\0garbage of some length", "the compressed data is damaged"),
        (gzip.compress(bytes(10000), mtime=0)[:-9] + b"x" * 9, "the compressed data is damaged"),
        (b"mtrrzap-trace 1\n", "already a trace"),
        (b"# mtrrzap-trace 1\nwhat", "not a row of 6 cells: 'what'"),
        (bytes(range(256)) * 99, "no guest access to an MTRR"),
        (POWER_ON + line("kvm_msr: msr_write 2ff = 0x"), "a malformed kvm_msr"),
        (b"", "no guest access to an MTRR"),
    ],
)
def test_errors_are_one_line(run: Run, tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    ran = run("import", str(path), "-o", str(tmp_path / "out"))
    assert (ran.status, ran.err.count("\n"), ran.out) == (2, 1, "")
    assert ran.err.startswith(f"mtrrzap: {path}")
    assert problem in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("import", "/"), "/: cannot be read: Is a directory; "),
        (("import", "/nothing"), "/nothing: cannot be read: No such file or directory; "),
        (("import", str(BOOT), "-o", "/no/where"), "/no/where: cannot be written: "),
    ],
)
def test_files_that_are_none(run: Run, args: tuple[str, ...], message: str) -> None:
    ran = run(*args)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith(f"mtrrzap: {message}")


def test_perfetto(run: Run, boot: Path, tmp_path: Path) -> None:
    """One instant an event, one slice a window, one track a vCPU."""
    document = json.loads(run("export", str(boot), "-f", "perfetto").out)
    found = [item for item in document["traceEvents"] if item["pid"] == 1]
    trace = read(boot)
    instants = [item for item in found if item["ph"] == "i"]
    assert [item["tid"] for item in instants] == [event.vcpu for event in trace.events]
    assert [item["ts"] for item in instants] == [
        (event.time_ns or 0) / 1000 for event in trace.events
    ]
    slices = [item for item in found if item["ph"] == "X"]
    assert [item["tid"] for item in slices] == [0, 1, 0, 1, 0]
    assert all(item["dur"] > 0 for item in slices)
    assert [item["args"]["name"] for item in found if item["name"] == "thread_name"] == [
        "vCPU 0",
        "vCPU 1",
    ]
    assert instants[3]["name"] == "DEF_TYPE = 0x0"
    untimed = tmp_path / "untimed.trace"
    events = tuple(event._replace(time_ns=None) for event in trace.events)
    untimed.write_text(dumps(Trace(trace.header, events, "cut")))
    document = json.loads(run("export", str(untimed), "-f", "perfetto").out)
    assert document["otherData"]["time"].startswith("order of events only")
    assert "INCOMPLETE: cut" in document["traceEvents"][0]["args"]["name"]
    assert [i["ts"] for i in document["traceEvents"] if (i["ph"], i["pid"]) == ("i", 1)] == [
        float(n) for n in range(83)
    ]


def test_the_captures_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_300_000
    assert len(text("report").splitlines()) == 4167
