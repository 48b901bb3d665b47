import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mtrrzap.cli.check import check
from mtrrzap.errors import UserError

APP = typer.Typer()
APP.command()(check)
RUN = CliRunner()


def test_status_0_if_everything_holds() -> None:
    done = RUN.invoke(APP, ["ticket"])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[2].split()[:4] == ["ticket", "lost", "zap", "holds"]


def test_status_1_and_a_counterexample_if_something_is_violated() -> None:
    done = RUN.invoke(APP, ["v4", "--no-alloc-fails", "-p", "lost zap"])
    assert done.exit_code == 1
    assert "VIOLATED  " in done.stdout
    assert "vCPU 1 returns, and no zap that started after it asked has finished" in done.stdout


def test_status_1_if_nothing_was_decided() -> None:
    done = RUN.invoke(APP, ["ticket", "-n", "4", "--max-states", "50", "-p", "lost zap"])
    assert done.exit_code == 1
    assert "holds" not in done.stdout
    assert "unknown" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["v5"], "unknown protocol 'v5'"),
        (["v4", "-n", "0"], "invalid number of vCPUs: 0"),
        (["v4", "-p", "speed"], "unknown property 'speed'"),
        (["v4", "--range", "5"], "--range: invalid range '5'"),
        (["v4", "--range", "9-5"], "invalid range"),
        (["v4", "--memory-model", "arm"], "unknown memory model 'arm'"),
        (["v4", "--strategy", "luck"], "--strategy: unknown strategy 'luck'"),
        (["v4", "--engine", "gpu"], "--engine: unknown engine 'gpu'"),
        (["nowhere.py:f"], "nowhere.py: no such file"),
        (["--replay", "nowhere"], "nowhere: cannot be read"),
    ],
)
def test_bad_usage_is_a_user_error(arguments: list[str], says: str) -> None:
    done = RUN.invoke(APP, arguments)
    assert isinstance(done.exception, UserError)
    assert says in str(done.exception)


def test_status_2_for_bad_usage() -> None:
    command = [sys.executable, "-m", "mtrrzap", "check", "v5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mtrrzap: unknown protocol 'v5'")


def test_json() -> None:
    done = RUN.invoke(APP, ["sketch", "--json", "-p", "starvation", "-p", "work"])
    starved, work = json.loads(done.stdout)
    assert (starved["verdict"], starved["states"]) == ("VIOLATED", 216)
    assert starved["schedule"][0] == "# mtrrzap schedule 1"
    assert work["work"]["zaps"] == {"best": 2, "worst": 2, "needed": 1}
    assert work["work"]["waiting"] == {"worst": 2}


def test_schedules_are_written_and_replay(tmp_path: Path) -> None:
    done = RUN.invoke(APP, ["v3", "--brief", "--schedules", str(tmp_path)])
    assert done.exit_code == 1
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["v3.lost-zap.schedule", "v3.ordering.schedule", "v3.starvation.schedule"]
    again = RUN.invoke(APP, ["--replay", str(tmp_path / names[0])])
    assert again.exit_code == 1
    assert "kmalloc() = False" in again.stdout


OWN = (
    "from mtrrzap.protocol import Steps, Vm\n\n\n"
    "def nothing(vm: Vm, ranges) -> Steps:\n"
    "    yield vm.memory.alloc()\n"
)


def test_a_schedule_runs_a_file_only_if_the_user_names_it(tmp_path: Path) -> None:
    file, ran = tmp_path / "mine.py", tmp_path / "ran"
    file.write_text(OWN)
    own = f"{file}:nothing"
    RUN.invoke(APP, [own, "--brief", "-p", "lost zap", "--schedules", str(tmp_path)])
    (schedule,) = tmp_path.glob("*.schedule")
    file.write_text(f"open({str(ran)!r}, 'w')\n{OWN}")
    for names in ([], ["v4"], [f"{file}:other"], [f"{tmp_path}/other.py:nothing"]):
        done = RUN.invoke(APP, [*names, "--replay", str(schedule)])
        assert str(done.exception) == (
            f"{schedule}: its protocol is '{own}', which is not a built-in one; "
            "to run that file's code, give it as PROTOCOL too"
        )
        assert not ran.exists()
    assert "lost zap" in RUN.invoke(APP, [own, "--replay", str(schedule)]).stdout
    assert ran.exists()
    text = schedule.read_text().replace(own, "/elsewhere/mine.py:nothing")
    schedule.write_text(text)
    assert RUN.invoke(APP, [own, "--replay", str(schedule)]).exit_code == 1


def test_a_certificate_runs_a_file_only_if_the_user_names_it(tmp_path: Path) -> None:
    file, ran, certificate = tmp_path / "mine.py", tmp_path / "ran", tmp_path / "c.json"
    file.write_text(f"open({str(ran)!r}, 'w')\n{OWN}")
    certificate.write_text(json.dumps({"protocol": f"{file}:nothing"}))
    done = RUN.invoke(APP, ["--verify", str(certificate)])
    assert isinstance(done.exception, UserError), done.exception
    assert not ran.exists()


def test_a_schedule_is_read_up_to_a_bound() -> None:
    done = RUN.invoke(APP, ["--replay", "/dev/zero"])
    assert str(done.exception) == "/dev/zero: more than 1 MiB; name a schedule file"


def test_a_schedule_cannot_command_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "x.schedule"
    file.write_text(
        "# mtrrzap schedule 1\nprotocol: \x1b]0;x\x07\u202e.py:f\nalloc-fails: no\nmemory: sc\n"
        "forever: no\nvcpu 0: 0-1\n\n"
    )
    assert r"its protocol is '\x1b]0;x\x07\u202e.py:f'" in str(
        RUN.invoke(APP, ["--replay", str(file)]).exception
    )


def test_what_is_left_out_of_a_scenario_is_said_in_its_row() -> None:
    asked = ["direct", "-n", "4", "-p", "starvation", "-p", "ordering", "-p", "work"]
    done = RUN.invoke(APP, [*asked, "-p", "lost zap", "--json", "--memory-model", "tso"])
    details = {each["property"]: each["detail"] for each in json.loads(done.stdout)}
    fewer = "with 3 of 4 vCPUs: more take too many states"
    model = "under sc: it is not modelled under tso"
    assert details.pop("lost zap") == ""
    assert details.pop("work").endswith(f"; {fewer}; {model}")
    assert set(details.values()) == {f"{fewer}; {model}"}
    table = " ".join(RUN.invoke(APP, [*asked, "--brief"]).stdout.split())
    assert table.count("more take too many states") == 3


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from mtrrzap.protocol import Steps, Vm\n\n\n"
        "def nothing(vm: Vm, ranges) -> Steps:\n"
        "    yield vm.memory.alloc()\n"
    )
    done = RUN.invoke(APP, [f"{file}:nothing", "-p", "lost zap"])
    assert done.exit_code == 1
    file.write_text("def nothing(vm, ranges):\n    yield 1\n")
    done = RUN.invoke(APP, [f"{file}:nothing"])
    assert "does not name the class of its VM" in str(done.exception)
    file.write_text("x = 1\n1 / 0\n")
    done = RUN.invoke(APP, [f"{file}:nothing"])
    assert str(done.exception) == f"{file}:2: ZeroDivisionError: division by zero"
