"""``check``: every number of vCPUs, a guest's own requests, certificates, witnesses, going on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.cli import Run, run
from mtrrzap.protocol import PROTOCOLS

__all__ = ["run"]


@pytest.mark.parametrize("name", ["direct", "review", "ticket"])
def test_every_number_of_vcpus(run: Run, name: str) -> None:
    done = run("check", name, "--vcpus", "any", "--json")
    found = {each["property"]: each for each in json.loads(done.out)}
    assert set(found) == {
        "lost zap", "deadlock", "unlocked access", "capacity", "ordering", "starvation",
    }  # fmt: skip
    assert found["lost zap"]["verdict"] == "holds"
    assert found["lost zap"]["detail"] == "for every number of vCPUs"
    assert found["lost zap"]["engine"] == "views"
    assert done.status == (1 if name == "review" else 0)


def test_violated_always_with_a_schedule_that_replays(run: Run, tmp_path: Path) -> None:
    done = run("check", "v4", "-n", "any", "--schedules", str(tmp_path), "--brief")
    assert done.status == 1
    again = run("check", "--replay", str(tmp_path / "v4.lost-zap.schedule"))
    assert again.status == 1
    assert "vCPU 1 returns, and no zap that started after it asked has finished" in again.out


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_a_certificate_is_written_and_verified(run: Run, tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"review.{suffix}")
    assert run("check", "review", "-n", "any", "--certificate", path, "-p", "lost zap").status == 0
    done = run("check", "--verify", path)
    assert done.status == 0
    assert done.out == (
        f"{path}: verified. review, any number of vCPUs that ask for ever, each time for [0,~0). "
        "Proved: lost zap.\n"
    )


def test_a_wrong_certificate_is_rejected(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "review.json"
    run("check", "review", "-n", "any", "--certificate", str(path), "-p", "deadlock")
    text = json.loads(path.read_text(encoding="utf-8"))
    text["somebody"] = []
    path.write_text(json.dumps(text), encoding="utf-8")
    done = run("check", "--verify", str(path))
    assert done.status == 1
    assert done.out == f"{path}: REJECTED: nobody may be able to move\n"


def test_a_protocol_of_ones_own(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from mtrrzap.protocol import Range, Steps\n"
        "from mtrrzap.protocol.v4 import Vm\n"
        "def own(vm: Vm, ranges: tuple[Range, ...]) -> Steps:\n"
        "    yield vm.lock.lock()\n"
        "    for start, end in ranges:\n"
        "        yield vm.mmu.zap(start, end)\n"
        "    yield vm.lock.unlock()\n",
        encoding="utf-8",
    )
    name, path = f"{file}:own", str(tmp_path / "own.json")
    assert run("check", name, "-n", "any", "--certificate", path).status == 0
    done = run("check", name, "--verify", path)
    assert done.status == 0
    proved = "lost zap, deadlock, unlocked access, capacity, ordering, starvation"
    assert f"each time for [0,~0); allocation may fail. Proved: {proved}." in done.out
    changed = file.read_text(encoding="utf-8").replace("yield vm.lock.lock()", "pass")
    file.write_text(changed.replace("yield vm.lock.unlock()", "pass"), encoding="utf-8")
    done = run("check", name, "--verify", path)
    assert done.status == 1
    assert done.out == (
        f"{path}: REJECTED: it is for another text of the protocol: prove it again\n"
    )


@pytest.mark.parametrize("policy", [("-p", "review"), ("--policy", "review")])
def test_the_requests_of_a_guest(run: Run, policy: tuple[str, str]) -> None:
    done = run("check", "--requests-of", "seabios-8", *policy, "-n", "any", "--json")
    found = {each["property"]: each for each in json.loads(done.out)}
    assert {each["protocol"] for each in found.values()} == {"review"}
    assert found["lost zap"]["verdict"] == "holds"
    assert found["lost zap"]["world"] == (
        "any number of vCPUs that ask for ever, each time for any of 2 requests"
    )


def test_the_requests_of_a_guest_with_a_fixed_number(run: Run) -> None:
    arguments = ("--requests-of", "seabios-8", "-p", "Base2+9+10", "-p", "lost zap")
    done = run("check", *arguments, "--json")
    (found,) = json.loads(done.out)
    assert (found["protocol"], found["verdict"], found["detail"]) == (
        "v4_patch10", "VIOLATED", "13 steps",
    )  # fmt: skip
    assert "for any of 2 requests" in found["world"]
    other = run("check", "ticket", *arguments, "-n", "3")
    assert other.status == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-n", "many"), "--vcpus: invalid number of vCPUs: 'many'; give a number, or any"),
        (("--certificate", "x"), "--certificate: a certificate of several protocols"),
        (("v4", "--certificate", "x"), "--certificate: a certificate of 2 vCPUs"),
        (("v4", "-n", "any", "--strategy", "pct"), "--strategy: a proof does not sample"),
        (("v4", "-n", "any", "--memory-model", "tso"), "a proof knows sc only"),
        (("v4", "-n", "any", "-p", "work"), "'work' is not decided for every number of vCPUs"),
        (("--requests-of", "seabios-8"), "--policy: no policy for the guest's requests"),
        (("--requests-of", "seabios-8", "-p", "v6.11"), "the trace makes no request"),
        (("--requests-of", "nobody", "-p", "review"), "nobody"),
        (("--verify", "nothing"), "nothing: cannot be read"),
        (("v4", "-n", "any", "-p", "lost zap", "--certificate", "x"), "nothing is proved"),
    ],
)
def test_what_is_refused(run: Run, arguments: tuple[str, ...], says: str) -> None:
    done = run("check", *arguments)
    assert done.status == 2
    assert says in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_witness(run: Run, name: str) -> None:
    done = run("check", name, "-p", "deadlock", "--witness")
    assert f"{name}: witness, 2 vCPUs, 1 request each" in done.out
    assert done.out.count("asks for") == 2
    assert done.out.count("returns") == 2 + len(["Every call returns"])
    assert done.out.endswith("Every call returns when its ranges are zapped.\n")


def test_no_witness(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from mtrrzap.protocol import Range, Steps\n"
        "from mtrrzap.protocol.v4 import Vm\n"
        "def own(vm: Vm, ranges: tuple[Range, ...]) -> Steps:\n"
        "    yield vm.zapping.store(1)\n",
        encoding="utf-8",
    )
    done = run("check", f"{file}:own", "-p", "deadlock", "--witness")
    assert "no interleaving found in which nothing goes wrong" in done.out


def test_going_on_after_a_schedule(run: Run, tmp_path: Path) -> None:
    """The shortest schedule, cut off anywhere before its end, leads to its end again."""
    run("check", "v4", "-p", "lost zap", "--schedules", str(tmp_path))
    file = tmp_path / "v4.lost-zap.schedule"
    lines = file.read_text(encoding="utf-8").splitlines()
    head = lines.index("") + 1
    for kept in (0, 7, 19):
        file.write_text("\n".join(lines[: head + kept]) + "\n", encoding="utf-8")
        done = run("check", "--replay", str(file), "--continue", "--json")
        assert done.status == 1
        found = {each["property"]: each for each in json.loads(done.out)}
        assert set(found) == {"lost zap", "deadlock", "unlocked access", "capacity"}
        assert found["lost zap"]["detail"] == f"{20 - kept} more steps"
        assert len(found["lost zap"]["schedule"]) - head == 20
        assert found["deadlock"]["verdict"] == "holds"


def test_vcpus_that_ask_for_ever_are_not_continued(run: Run, tmp_path: Path) -> None:
    run("check", "v4", "-p", "starvation", "--schedules", str(tmp_path))
    done = run("check", "--replay", str(tmp_path / "v4.starvation.schedule"), "--continue")
    assert done.status == 2
    assert "the schedule's vCPUs ask for ever" in done.err
