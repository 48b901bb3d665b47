"""``mtrrzap sweep`` as it is typed: what it says, its status, Ctrl-C."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cli import Run
from helpers.sweeps import CHECK
from mtrrzap.cli.progress import duration, sweep_line
from mtrrzap.sweep.driver import SweepState
from mtrrzap.sweep.store import Counts

LONG = """\
kind = "check"
[grid]
protocols = "ticket"
vcpus = 8
strategies = "random"
seeds = { from = 0, to = 99999 }
executions = 200
"""


def test_a_swarm_from_spec_to_schedule(run: Run, tmp_path: Path) -> None:
    spec, results = tmp_path / "s.toml", tmp_path / "r"
    spec.write_text(CHECK)
    ran = run("sweep", str(spec), "-o", str(results), "-j", "1")
    assert ran.status == 1
    schedule = results / "schedules/v4-4x1.schedule"
    assert ran.out.splitlines() == [
        f"v4, 4 vCPUs, 1 request each: lost zap violated in 20 steps: {schedule}",
        "12 of 12 cells: 12 done, 3 violated",
        f"See 'mtrrzap sweep show {results}'.",
    ]
    shown = run("check", "--replay", str(schedule))
    assert shown.status == 1
    assert "v4: lost zap, 4 vCPUs, 1 request each, allocation may fail, 20 steps" in shown.out
    again = run("sweep", "run", "-o", str(results), str(spec))
    assert (again.status, "0 of them new" in again.out) == (1, True)


def test_ctrl_c_finishes_what_is_in_flight(tmp_path: Path) -> None:
    spec, results = tmp_path / "s.toml", tmp_path / "r"
    spec.write_text(LONG)
    command = [sys.executable, "-m", "mtrrzap", "sweep", str(spec), "-o", str(results), "-j", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not list(results.glob("parts/part-*")):  # it has begun
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert "stopping after the running cells" in err
    assert "Traceback" not in err
    assert f"Interrupted. Finished cells are in {results}; run the same command to continue." in out
    assert " 0 failed" not in out
    assert not list(results.rglob(".tmp*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing.toml", "-o", "r"), "nothing.toml: cannot be read: No such file or directory"),
        ((".", "-o", "r"), ".: cannot be read: Is a directory"),
        (("s.toml",), "Missing option '--output'"),
        (("s.toml", "-o", "s.toml"), "s.toml: cannot be written: "),
        (("s.toml", "-o", "/proc/r"), "/proc/r: cannot be written: No such file or directory"),
        (("s.toml", "-o", "r", "-j", "2", "--scheduler", "tcp://h:1"), "cannot be combined"),
        (("binary.toml", "-o", "r"), "binary.toml: not UTF-8; name a TOML file"),
        (
            ("unknown.toml", "-o", "r"),
            "unknown.toml: grid.traces: 'gone.trace': gone.trace: can",
        ),
        (("protocol.toml", "-o", "r"), "protocol.toml: grid.protocols: 'v9': unknown protocol"),
    ],
)
def test_bad_usage_is_one_line(
    arguments: tuple[str, ...],
    says: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text('kind = "simulate"')
    Path("binary.toml").write_bytes(b"\xff\xfe")
    Path("unknown.toml").write_text('kind = "simulate"\ngrid.traces = "gone.trace"')
    Path("protocol.toml").write_text('kind = "check"\ngrid.protocols = "v9"')
    ran = run("sweep", *arguments)
    assert (ran.status, len(ran.err.splitlines())) == (2, 1)
    assert ran.err.startswith("mtrrzap: ")
    assert says in ran.err
    assert not Path("r").exists()


def test_the_progress_line() -> None:
    state = SweepState(1000, Counts(done=200, refused=40, failed=3))
    assert sweep_line(state, 12.34, "2 processes") == (
        "243 of 1,000 cells, 12.3/s, about 1 min 1 s left, 3 failed, 40 refused, 2 processes"
    )
    assert sweep_line(SweepState(7), 0.0, "no workers") == "0 of 7 cells, 0 failed, no workers"
    assert [duration(t) for t in (5, 61, 3700, 100000)] == [
        *("5 s", "1 min 1 s", "1 h 1 min", "1 d 3 h")
    ]
