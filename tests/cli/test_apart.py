"""Whatever a user's file does, status 0 means that the verdicts were printed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = "from mtrrzap.protocol import *\nimport atexit, ctypes, os, signal, sys, threading, time\n"
BODY = "\ndef f(vm: Vm, ranges):\n    yield vm.mmu.zap(*ranges[0])\n"
COMMAND = (sys.executable, "-m", "mtrrzap")
CHECK = ("check", "f.py:f", "--brief", "-p", "lost zap")
ENDED = "a protocol's file ended the program"


def ran(
    folder: Path, line: str, *arguments: str, body: str = BODY
) -> subprocess.CompletedProcess[str]:
    (folder / "f.py").write_text(HEAD + line + body)
    return subprocess.run(
        [*COMMAND, *(arguments or CHECK)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("os._exit(0)", f"{ENDED} (exit status 0) before it was done"),
        ("os._exit(7)", f"{ENDED} (exit status 7) before it was done"),
        ("os.execv('/bin/true', ['true'])", f"{ENDED} (exit status 0)"),
        ("ctypes.CDLL(None).exit(0)", f"{ENDED} (exit status 0)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", f"{ENDED} (SIGKILL)"),
        ("if os.fork(): os._exit(0)", f"{ENDED} (exit status 0)"),
        ("threading.Timer(0, os._exit, [0]).start(); time.sleep(9)", f"{ENDED} (exit status 0)"),
        ("sys.exit(0)", "f.py:3: the file exits the program (SystemExit)"),
        ("sys.stdout.close()", "a protocol's file closes standard output"),
        ("sys.stdout = None", "a protocol's file closes standard output"),
        ("sys.stdout = open(os.devnull, 'w')", "a protocol's file replaces standard output"),
        ("os.dup2(os.open(os.devnull, 1), 1)", "a protocol's file replaces standard output"),
        ("os.close(1)", "standard output: Bad file descriptor; what was printed is not whole"),
    ],
)
def test_a_file_that_ends_the_program_is_an_error(line: str, says: str, tmp_path: Path) -> None:
    done = ran(tmp_path, line)
    assert done.returncode == 2
    assert done.stderr.startswith(f"mtrrzap: {says}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "line", ["", "os._exit = print", "atexit.register(os._exit, 9)", "sys.setswitchinterval(1)"]
)
def test_verdicts_and_status_come_together(line: str, tmp_path: Path) -> None:
    done = ran(tmp_path, line)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2].split()[:4] == ["f.py:f", "lost", "zap", "holds"]


def test_a_call_that_ends_the_program_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text('kind = "check"\n[grid]\nprotocols = ["f.py:f"]\n')
    for arguments in (CHECK, ("run", "-p", "f.py:f", "--engine", "threads", "-r", "1")):
        body = BODY.replace("yield", "os._exit(0); yield")
        done = ran(tmp_path, "", *arguments, body=body)
        assert (done.returncode, done.stdout) == (2, "")
        assert ENDED in done.stderr
    done = ran(tmp_path, "os._exit(0)", "sweep", "sweep.toml", "-o", "d")
    assert (done.returncode, done.stdout) == (2, "")
    assert ENDED in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(HEAD + BODY)
    line = f"{' '.join(COMMAND)} check f.py:f -p capacity | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, check=False, capture_output=True)
    assert (done.returncode in (0, 141), done.stderr) == (True, b"")


def test_an_endless_import_ends_by_ctrl_c(tmp_path: Path) -> None:
    """Even one that ignores it: the third is not asked about."""
    (tmp_path / "f.py").write_text(
        "import signal, os\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "os.write(1, b'here')\nwhile True: pass\n"
    )
    with subprocess.Popen([*COMMAND, *CHECK], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 9) == b"here"
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("where", ["call", "import"])
def test_a_signal_is_no_exit_of_the_file(tmp_path: Path, number: int, where: str) -> None:
    line = f"os.kill(os.getpid(), {number:d})"
    body = BODY.replace("yield", f"{line}; yield") if where == "call" else BODY
    done = ran(tmp_path, line if where == "import" else "", *CHECK, body=body)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")
