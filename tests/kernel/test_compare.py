"""The real kernel itself: Linux 6.1 in an emulated host, against v6.1, call by call."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from helpers.cli import Run
from helpers.kernel_records import CALLS
from mtrrzap.errors import UserError
from mtrrzap.kernel import boot, guests, image
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.perform import Task

LIMIT = 900
"""Seconds: for a machine on which much else runs."""


@pytest.mark.timeout(LIMIT)
def test_the_kernel_does_what_v6_1_says(run: Run, kernel: image.Kernel) -> None:
    options = ("--kernel", str(kernel.image), "--guest", "seabios", f"--timeout={LIMIT}")
    ran = run("kernel", "compare", "--json", *options)
    assert ran.status == 0, ran
    data = json.loads(ran.out)
    rows = {(row["trace"], row["quirk"]): row for row in data["rows"]}
    for (family, vcpus), counts in CALLS.items():
        name = f"{family.lower()}-{vcpus}"
        assert tuple(rows[name, quirk]["calls"] for quirk in (True, False)) == counts
    assert rows["a boot of SeaBIOS", True]["calls"] == 14
    assert all(row["calls"] == row["requests"] and not row["differences"] for row in data["rows"])
    assert {row["events"] for row in data["rows"] if row["trace"].startswith("random")} == {3319}
    assert all(control["passed"] for control in data["controls"])
    assert len(data["controls"]) == 18
    assert data["not judged"].keys() == {"cd_type_with_quirk", "honours_mtrrs"}
    assert data["second stage"] == "NPT"


@pytest.mark.timeout(LIMIT)
def test_run_vfio_on_a_host_with_such_a_device(kernel: image.Kernel) -> None:
    """The command itself, in the emulated host; and it leaves no probe behind."""
    program = (
        "import sys, pathlib; from mtrrzap.cli.main import main\n"
        "sys.argv = 'mtrrzap run seabios-8 --vfio GROUP --memory 4M --json'.split()\n"
        "try: main()\n"
        "finally: assert not pathlib.Path('/sys/kernel/tracing/kprobe_events').read_text()"
    )
    task = guests.GuestTask("run", [sys.executable, "-c", program], LIMIT, asked=False)
    host = boot.Host(kernel)
    jobs = [boot.Job(each, (), [task]) for each in (host, host.with_snoop_control())]
    results, coherent = boot.run(jobs, timeout=LIMIT)
    assert results["run"]["status"] == 0, results
    assert coherent["run"]["status"] == 2
    assert "VFIO group" in coherent["run"]["output"]
    assert "makes this device's DMA snoop" in coherent["run"]["output"]
    data = json.loads(results["run"]["output"])
    assert (data["calls"], data["requests"], data["differences"]) == (50, 50, [])
    assert data["host"]["second stage"] == "NPT"
    assert not data["host"]["coherent"]
    assert len(data["events"]) == 50
    assert all(call["seconds"] > 0 for event in data["events"] for call in event["calls"])


@pytest.mark.timeout(LIMIT)
def test_ctrl_c(kernel: image.Kernel, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mtrrzap", "kernel", "compare", "--kernel", str(kernel.image)]
    with subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path)}) as ran:
        while not list(tmp_path.glob("mtrrzap-kernel-*/1/qemu")):
            time.sleep(0.1)
        ran.send_signal(signal.SIGINT)
        assert ran.wait() == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(LIMIT)
def test_errors_and_the_limit(
    kernel: image.Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    host = boot.Host(kernel)
    task = Task("a", Settings(1), [(0, "wrmsr", 0x2FF, 6)])
    with pytest.raises(UserError, match="not done after 1 s; the console ends with"):
        boot.run([boot.Job(host, [task])], timeout=1)
    broken = tmp_path / "qemu"
    broken.write_text("#!/bin/sh\necho oops >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(UserError, match="ended with status 3: oops"):
        boot.run([boot.Job(boot.Host(kernel, qemu=str(broken)), [task])], timeout=60)
    broken.write_bytes(b"no program")
    with pytest.raises(UserError, match=f"{broken}: cannot be run: Exec format error"):
        boot.run([boot.Job(boot.Host(kernel, qemu=str(broken)), [task])], timeout=60)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "kvm.ko").write_bytes(b"no module")
    with pytest.raises(UserError, match="cannot load kvm, kvm_amd; build modules against exactly"):
        boot.run([boot.Job(boot.Host(kernel, tmp_path / "own"), [task])], timeout=LIMIT)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "own", broken]
