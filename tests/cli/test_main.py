"""The command line: exit status, the one error line, and that the formats agree."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.cli import Run
from helpers.traces import FINE, trace
from mtrrzap.guest.trace import Trace, dumps


def test_compare_formats_agree(run: Run, file: Path) -> None:
    rows = json.loads(run("compare", str(file), "--json").out)
    from_csv = list(csv.DictReader(io.StringIO(run("compare", str(file), "--csv").out)))
    assert len(rows) == len(from_csv) == 14
    for left, right in zip(rows, from_csv, strict=True):
        assert {k: "" if v is None else str(v) for k, v in left.items()} == right
    assert (rows[0]["policy"], rows[0]["requests"]) == ("v6.1", 5)
    table = run("compare", str(file))
    assert table.status == 0
    assert table.out.count("Base2+9+10+11+12") == 1


def test_compare_takes_policies_in_order(run: Run, file: Path) -> None:
    rows = json.loads(run("compare", str(file), "-p", "+9", "-p", "v6.11", "--json").out)
    assert [row["policy"] for row in rows] == ["Base2+9", "v6.11"]


def test_incomplete_traces_are_named(run: Run, tmp_path: Path) -> None:
    whole = trace(*FINE)
    path = tmp_path / "cut.trace"
    path.write_text(dumps(Trace(whole.header, whole.events, "time limit of 5 s")))
    for command in (("compare", str(path)), ("show", str(path))):
        assert "time limit of 5 s" in run(*command).out
    assert "INCOMPLETE" in run("requests", str(path), "-p", "v6.1").out
    assert "INCOMPLETE" in run("explain", str(path), "-p", "v6.1").out
    assert "INCOMPLETE" in run("requests", str(path), "-p", "v6.1", "--csv").err
    as_json = json.loads(run("requests", str(path), "-p", "v6.1", "--json").out)
    assert as_json["incomplete"] == "time limit of 5 s"
    assert json.loads(run("show", str(path), "--json").out)["incomplete"] == "time limit of 5 s"


def test_requests_formats_agree(run: Run, file: Path) -> None:
    whole = json.loads(run("requests", str(file), "-p", "+9+10", "--json").out)
    assert (whole["policy"], whole["incomplete"]) == ("Base2+9+10", None)
    as_json = whole["requests"]
    as_csv = list(
        csv.DictReader(io.StringIO(run("requests", str(file), "-p", "+9+10", "--csv").out))
    )
    assert len(as_json) == len(as_csv) == 7
    assert as_json[-1]["ranges"] == [[0, 0x100], [0xC0000, 0x100000]]
    assert as_csv[-1]["ranges"] == "[0x0, 0x100) [0xc0000, 0x100000)"
    assert as_csv[-1]["frames"] == str(0x100 + 0x40000)
    assert "7 requests under Base2+9+10" in run("requests", str(file), "-p", "+9+10").out


def test_show_says_whether_the_vcpus_agree(run: Run, file: Path) -> None:
    out = run("show", str(file)).out
    assert "The vCPUs' final MTRRs DIFFER: 2 groups." in out
    assert "Final map of vCPU 1-3" in out
    found = json.loads(run("show", str(file), "--json").out)
    assert [group["vcpus"] for group in found["final"]] == [[0], [1, 2, 3]]
    assert found["vcpus"][0]["cd_toggles"] == 2


def test_show_names_writes_that_kvm_refuses(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.trace"
    text = dumps(trace(*FINE)).replace("0 wrmsr 0x2ff 0xc06", "0 wrmsr 0x2ff 0x1c06")
    path.write_text(text)
    found = json.loads(run("show", str(path), "--json").out)["refused_by_kvm"]
    assert [(row["event"], row["rule"]) for row in found] == [
        (2, "bits 63:12 and 9:8 are reserved")
    ]
    assert "KVM refuses it (bits 63:12 and 9:8 are reserved)" in run("show", str(path)).out


def test_policies(run: Run) -> None:
    assert len(json.loads(run("policies", "--json").out)) == 18
    assert run("policies", "--markdown").out.startswith("# The zap policies\n")
    assert run("policies").status == 0


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["compare", "nothing.trace"],
            "nothing.trace: cannot be read: No such file or directory; ",
        ),
        (["compare", "/"], "/: cannot be read: Is a directory; "),
        (["show", "fedora-4"], "fedora-4: no such file or shipped trace; shipped are: "),
        (["compare", "-p", "v7"], "--policy: no policy 'v7'; known are: "),
        (["compare", "--json", "--csv"], "--json and --csv cannot be combined; choose one"),
    ],
)
def test_errors_are_one_line(run: Run, args: list[str], line: str) -> None:
    ran = run(*args)
    assert ran.status == 2
    assert ran.err.startswith(f"mtrrzap: {line}")
    assert ran.err.count("\n") == 1
    assert ran.out == ""


def test_a_foreign_file_is_one_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.trace"
    path.write_bytes(bytes(range(256)) * 1000)
    ran = run("compare", str(path))
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith(f"mtrrzap: {path}:1: not a trace")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["compare", "--colour"], "No such option: --colour; see 'mtrrzap compare --help'"),
        (
            ["requests", "seabios-8"],
            "Missing option '--policy' / '-p'; see 'mtrrzap requests --help'",
        ),
        (["colour"], "No such command 'colour'; see 'mtrrzap --help'"),
        (
            ["compare", "--host-maxphyaddr", "31"],
            "Invalid value for '--host-maxphyaddr': Input should be greater than or equal to 32; "
            "see 'mtrrzap compare --help'",
        ),
        (
            ["policies", "--json", "--markdown"],
            "--json and --markdown cannot be combined; choose one",
        ),
    ],
)
def test_bad_usage(run: Run, args: list[str], line: str) -> None:
    ran = run(*args)
    assert (ran.status, ran.out, ran.err) == (2, "", f"mtrrzap: {line}\n")


def test_help(run: Run) -> None:
    assert "Usage: mtrrzap" in run().out
    assert run("compare", "--help").status == 0


def test_two_traces_of_one_name(run: Run, tmp_path: Path) -> None:
    """The one that is incomplete is named by its path, and so is each row."""
    whole = trace(*FINE)
    paths = [tmp_path / "a" / "x.trace", tmp_path / "b" / "x.trace"]
    for path, why in zip(paths, ("cut", None), strict=True):
        path.parent.mkdir()
        path.write_text(dumps(Trace(whole.header, whole.events, why)))
    out = run("compare", *map(str, paths), "-p", "v6.1").out
    assert f"{paths[0]}: INCOMPLETE (cut)" in out
    assert out.count(str(paths[1])) == 1
    assert out.count("INCOMPLETE") == 1


@pytest.mark.parametrize("options", [["--npt"], ["--no-quirk"], ["--coherent-dma"]])
def test_published_counts_are_only_for_what_was_measured(run: Run, options: list[str]) -> None:
    rows = json.loads(run("compare", "seabios-8", "-p", "Base1", "--json").out)
    assert rows[0]["published"] == 50
    rows = json.loads(run("compare", "seabios-8", "-p", "Base1", "--json", *options).out)
    assert rows[0]["published"] is None


def test_a_traces_text_steers_nothing(run: Run, tmp_path: Path) -> None:
    """Neither Rich's markup nor a terminal's escape sequences work from inside a trace."""
    hostile = "\\[/b] [red]x[/red] \x1b[2J\x07"
    whole = trace(*FINE)
    header = replace(whole.header, firmware=f"Evil{hostile}", notes=(hostile,))
    path = tmp_path / "evil.trace"
    path.write_text(dumps(Trace(header, whole.events, hostile)))
    for command in (("compare",), ("show",), ("requests", "-p", "v6.1"), ("audit",)):
        ran = run(command[0], str(path), *command[1:])
        assert ran.status in (0, 1), ran.err
        assert "\x1b" not in ran.out
        assert "\x07" not in ran.out
    assert r"\[/b] [red]x[/red] \x1b[2J\x07" in run("show", str(path)).out


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".trace", "d/" + "x" * 300])
def test_a_name_too_long(run: Run, name: str) -> None:
    ran = run("show", name)
    assert (ran.status, ran.err.count("\n")) == (2, 1)


def test_a_full_disk_behind_standard_output(file: Path) -> None:
    for command in ("compare", "show"):
        with Path("/dev/full").open("w") as full:
            ran = subprocess.run(
                [sys.executable, "-m", "mtrrzap", command, str(file)],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert ran.returncode == 2
        assert ran.stderr == (
            "mtrrzap: standard output: No space left on device; what was printed is not whole\n"
        )


def test_a_closed_standard_output(file: Path) -> None:
    ran = subprocess.run(
        ["sh", "-c", 'exec "$0" -m mtrrzap compare "$1" >&-', sys.executable, str(file)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("mtrrzap: standard output: Bad file descriptor; ")


@pytest.mark.parametrize(
    "words",
    [
        ("show", "{}"),
        ("compare", "{}"),
        ("compare", "{}", "--csv"),
        ("requests", "{}", "-p", "v6.1", "--json"),
        ("export", "{}", "-f", "csv"),
        ("export", "{}", "-f", "perfetto"),
        ("report", "{}", "-o", "-"),
        ("check", "v4", "--show"),
        ("policies",),
        ("emit", "review"),
        ("--help",),
    ],
)
def test_a_reader_that_leaves(file: Path, words: tuple[str, ...]) -> None:
    """As cat and trace-cmd: no word, and the status that a shell gives to SIGPIPE."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:  # noqa: PTH123
        ran = subprocess.run(
            [sys.executable, "-m", "mtrrzap", *(word.replace("{}", str(file)) for word in words)],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (141, "")
