"""``mtrrzap run`` as a user meets it: one line for what cannot be, a table for what can."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Run
from helpers.live_host import LIMIT, need_kvm
from mtrrzap.cli.progress import run_line
from mtrrzap.cli.run import case_of
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import Trace, dumps
from mtrrzap.kvm.policy import OLDER, Policy
from mtrrzap.live import measure
from mtrrzap.report.text import MEMORY_UNKNOWN

SMALL = ("--engine", "threads", "-r", "1", "--touch", "4", "--memory", "4M")
THREADS = ("run", "seabios-8", "--vcpus", "2", *SMALL)


def test_threads_print_a_table(run: Run) -> None:
    out = run(*THREADS, "-p", "ticket", "-p", "+9:review").out.splitlines()
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in out if row.startswith("│")]
    assert [row[:4] for row in rows] == [
        ["ticket", "12", "18", "18"],
        ["+9:review", "12", "12", "12"],
    ]
    assert [row[4] for row in rows] == ["7,680", "12,288"]
    assert [row[8] for row in rows] == ["18", "12"]
    assert "All 2 runs have the requests and ranges that compare counts." in out
    assert any(text.startswith("Modelled: the recorded guest") for text in out)


def test_what_depends_on_an_unknown_memory_is_unknown(run: Run, tmp_path: Path) -> None:
    """Nothing modelled of a capture without its memory, by ``run`` or in a sweep."""
    boot = traces.load(Path("seabios-8"))
    path = tmp_path / "boot.trace"
    path.write_text(dumps(Trace(replace(boot.header, memory=0, memslots=()), boot.events)))
    words = ("run", str(path), *SMALL, "-p", "v6.1")
    assert json.loads(run(*words, "--json").out)["rows"][0]["modelled"] is None
    assert run(*words).out.endswith(f"{MEMORY_UNKNOWN}\n")
    spec = tmp_path / "spec.toml"
    spec.write_text('kind = "simulate"\n[grid]\ntraces = ["boot.trace"]\npolicies = ["v6.1"]\n')
    assert run("sweep", str(spec), "-o", str(tmp_path / "out")).status == 0
    rows = json.loads(run("sweep", "show", str(tmp_path / "out"), "--json").out)
    assert "memory: unknown, and the figures depend on it" in json.dumps(rows)


@pytest.mark.parametrize("policy", OLDER, ids=lambda policy: policy.name)
def test_a_policy_before_v61_runs(policy: Policy) -> None:
    case = case_of(policy.name)
    assert (case.name, case.policy, case.protocol.name) == (policy.name, policy, "direct")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("-p no", "--policy: neither a policy nor a protocol is called 'no'; policies are v6.1,"),
        ("-p review:no", "unknown protocol 'no'"),
        ("-p no:review", "unknown protocol 'no:review'"),
        (
            "--memory 0M",
            "--memory: 0 MiB leave no page to touch beside stacks and tables of 8",
        ),
        ("--memory lots", "--memory: invalid size 'lots'"),
        ("--memory 65G", "--memory: more than the test guest can map; give at most 64G"),
        ("--page-size 1G", "--page-size: a test guest cannot be backed by 1G pages; use 2M"),
        ("--vcpus 1", "--vcpus: the trace does not show what vCPU 0 does without others"),
        ("--timeout nan", "--timeout: invalid timeout of nan s; give 1 to 86400"),
        ("--timeout inf", "--timeout: invalid timeout of inf s; give 1 to 86400"),
        ("--timeout 0", "--timeout: invalid timeout of 0 s; give 1 to 86400"),
        ("--timeout 0.001", "--timeout: not done after 0.001 s; events done: vCPU 0 "),
    ],
)
def test_what_cannot_be_is_one_line(run: Run, args: str, says: str) -> None:
    ended = run("run", "ovmf-8", "--engine", "threads", *args.split())
    assert ended.status == 2
    assert ended.err.startswith(f"mtrrzap: {says}")
    assert ended.err.count("\n") == 1


def started(*args: str, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*wrapper, sys.executable, "-m", "mtrrzap", "run", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_no_kvm_is_one_line() -> None:
    """/dev is empty, in a mount namespace of its own."""
    wrapper = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh")
    if not os.access("/", os.W_OK) or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, to hide /dev/kvm")
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here, to hide /dev/kvm")
    done = started("-r", "1", wrapper=wrapper)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "mtrrzap: /dev/kvm: there is no KVM on this machine; load it, or use the threads engine\n"
    )


def test_no_permission_is_one_line() -> None:
    need_kvm()
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to be nobody")
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    if Path("/dev/kvm").stat().st_mode & 0o006:
        pytest.skip("here everybody may use /dev/kvm")
    done = started("-r", "1", wrapper=nobody)
    if "mtrrzap" not in done.stderr:
        pytest.skip(f"nobody cannot read this source tree: {done.stderr[-80:]}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "mtrrzap: /dev/kvm: Permission denied; join its group (kvm), or use the threads engine\n"
    )


def test_few_descriptors_are_one_line() -> None:
    need_kvm()
    done = started("-r", "1", wrapper=("sh", "-c", 'ulimit -n 20 && exec "$@"', "sh"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mtrrzap: ulimit -n: too many open files: the monitor needs ")


def test_a_guest_larger_than_the_host_is_one_line() -> None:
    need_kvm()
    done = started("-r", "1", "--memory", "64G")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mtrrzap: --memory: the host has ")


MINE = """
from mtrrzap.protocol import Atomic, Vm as Base

class Vm(Base):
    flag = Atomic(0)

def forgets(vm: Vm, ranges):
    yield vm.flag.load()

def fails(vm: Vm, ranges):
    yield vm.flag.load()
    raise ValueError("mine")

def waits(vm: Vm, ranges):
    yield vm.flag.wait_until(1)
"""


@pytest.mark.parametrize(
    ("function", "status", "says"),
    [
        ("forgets", 1, "run 1: LOST ZAP: 12 requests returned before all of their frames were"),
        ("fails", 2, "mtrrzap: {file}:12: ValueError: mine\n"),
        ("waits", 2, "mtrrzap: --timeout: not done after 0.5 s; events done: vCPU 0 "),
    ],
)
def test_a_protocol_of_ones_own(
    run: Run, tmp_path: Path, function: str, status: int, says: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    ended = run(
        *THREADS, "-p", f"Base2:{file}:{function}", "--timeout", "0.5" if status == 2 else "60"
    )
    assert ended.status == status
    assert says.format(file=file) in ended.out + ended.err
    assert "Traceback" not in ended.err


def test_progress() -> None:
    shown = run_line("review", 0, 3, [0, 5, 10, 0], [10, 10, 10, 0])
    assert shown == "review  run 1 of 3  ▁▄██  15 of 30 events"


def test_ctrl_c_keeps_what_was_measured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third run is interrupted; the second policy has one run then."""
    real, calls = measure.once, []

    def once(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(measure, "once", once)
    ended = run(*THREADS, "-p", "ticket", "-p", "review", "-r", "2", "--json")
    assert (ended.status, ended.err) == (130, "mtrrzap: interrupted after 2 of 4 runs\n")
    found = json.loads(ended.out)
    assert found["ended"] == "interrupted after 2 of 4 runs"
    assert [len(row["runs"]) for row in found["rows"]] == [1, 1]
    calls[:] = [(), ()]
    ended = run(*THREADS, "-p", "ticket")
    assert ended == (130, "", "mtrrzap: interrupted after 0 of 1 run\n")
