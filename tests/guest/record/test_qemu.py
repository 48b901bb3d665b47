"""The process: how its end is told, and that nothing of it is left. No QEMU needed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from helpers.recording import running
from mtrrzap.guest.record.qemu import GoneError, Qemu, StopRequest

FOREVER = "while :; do sleep 1000; done"
"""A child that the hang-up of its terminal does not end."""


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    with StopRequest() as made:
        yield made


def script(path: Path, text: str) -> list[str]:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
    path.chmod(0o755)
    return [str(path)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kill -KILL $$", "QEMU was killed by SIGKILL"),
        ("kill -40 $$", "QEMU was killed by signal 40"),
        ("echo warning: x >&2; echo why >&2; exit 3", "QEMU ended by itself with status 3: why"),
        ("exit 0", "QEMU ended by itself with status 0"),
    ],
)
def test_a_send_tells_how_it_ended(
    stop: StopRequest, tmp_path: Path, text: str, words: str
) -> None:
    """A channel may break before anything was read that says so."""
    with Qemu(script(tmp_path / "qemu", text), stop) as machine:
        send = machine.attach("qmp", lambda _data: None)
        os.waitid(os.P_PID, machine.process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(GoneError) as caught:
            send(b"x")
        assert str(caught.value) == words
        assert machine.how_it_ended() == words


def test_the_loop_tells_how_it_ended(stop: StopRequest, tmp_path: Path) -> None:
    with Qemu(script(tmp_path / "qemu", "kill -TERM $$"), stop) as machine:
        os.waitid(os.P_PID, machine.process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(GoneError) as caught:
            machine.turn(monotonic())
        assert str(caught.value) == "QEMU was killed by SIGTERM"


@pytest.mark.parametrize("end", ["wait", "exit 0", "kill -KILL $$"])
def test_nothing_is_left(stop: StopRequest, tmp_path: Path, end: str) -> None:
    """The child of a wrapper script goes too, even if the script is gone before it."""
    command = script(tmp_path / "qemu", f"trap '' HUP\n{{ {FOREVER}; }} &\necho pid $! >&2\n{end}")
    with Qemu(command, stop) as machine:
        while b"\n" not in machine.stderr:
            machine.turn(monotonic() + 60)
        pid = int(machine.stderr.split()[1])
        assert running(pid)
    while running(pid):
        pass
    assert machine.process.returncode in (0, -signal.SIGKILL)
