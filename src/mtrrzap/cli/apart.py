"""Run a command in a child process where a user's file has a say: status 0 means that it is done.

A user's file is Python. It may end the process, replace standard output, or start threads that do.
So the command runs in a child, which hands its status over when it has printed everything. The
parent waits; a child that ends in any other way is an error.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FROM_KERNEL = 128
"""``SI_KERNEL``: the terminal's Ctrl-C, which the child gets too."""
_INTERRUPTS = 3
"""Ctrl-C after which a child that ignores it is killed."""
_SECONDS = 10.0
"""How long a child that has handed over its status may take to end."""
_TICK = 0.5
_PR_SET_PDEATHSIG = 1

_exit, _write = os._exit, os.write  # before a user's file can replace them


def is_needed(arguments: Sequence[str]) -> bool:
    """Say whether a command may run a user's file, and this process is the command's own."""
    sweeps = arguments[:1] == ["sweep"] and arguments[1:2] != ["show"]
    users = sweeps or any(".py:" in each for each in arguments)
    return users and sys.stdout is sys.__stdout__ and sys.platform == "linux"


def run(command: Callable[[], object]) -> None:
    """Run a command in a child, which it leaves by ``SystemExit``, and leave with its status."""
    reading, writing = os.pipe()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*_PASSED_ON, signal.SIGCHLD))
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.close(writing)
        _exit(_Parent(child, reading).wait())
    os.close(reading)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _in_child(command, writing)


def _in_child(command: Callable[[], object], writing: int) -> NoReturn:
    before = _output()
    status = 0
    try:
        command()
    except SystemExit as done:
        status = done.code if isinstance(done.code, int) else 1
    if status < 2 and _output() != before:
        say("a protocol's file replaces standard output; what was printed is not whole")
        status = 2
    with suppress(OSError):
        _write(writing, bytes([status & 0xFF]))
    raise SystemExit(status)


def _output() -> tuple[int, ...]:
    """Return what tells whether standard output is still what it was."""
    with suppress(OSError):
        file = os.fstat(1)
        return (id(sys.stdout), file.st_dev, file.st_ino)
    return (id(sys.stdout),)


class _Parent:
    """Waits for a child, and passes signals on."""

    def __init__(self, child: int, reading: int) -> None:
        self._child, self._reading = child, reading
        self._interrupts = 0
        self._sent: int | None = None
        self._status: int | None = None
        self._waited = 0.0
        os.set_blocking(reading, False)

    def wait(self) -> int:
        """Return the status to leave with, when the child has ended."""
        while True:
            told = signal.sigtimedwait((*_PASSED_ON, signal.SIGCHLD), _TICK)
            pid, ended = os.waitpid(self._child, os.WNOHANG)
            self._read()
            if pid:
                return self._judged(os.waitstatus_to_exitcode(ended))
            if told is None:
                self._late()
            elif told.si_signo != signal.SIGCHLD:
                self._pass_on(told)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            for status in os.read(self._reading, 1):
                self._status = status

    def _late(self) -> None:
        """Kill a child that is done and does not end, because of a thread or an exit handler."""
        self._waited += _TICK if self._status is not None else 0.0
        if self._waited >= _SECONDS:
            os.kill(self._child, signal.SIGKILL)

    def _pass_on(self, told: signal.struct_siginfo) -> None:
        self._interrupts += told.si_signo == signal.SIGINT
        self._sent = told.si_signo
        if self._interrupts >= _INTERRUPTS:
            os.kill(self._child, signal.SIGKILL)
        elif told.si_code != _FROM_KERNEL:
            os.kill(self._child, told.si_signo)

    def _judged(self, ended: int) -> int:
        """Return the status for a child that ended with that exit code, or signal if negative."""
        if self._status is not None:
            return self._status
        if ended < 0 and self._sent is not None:
            say("interrupted")
            return 128 + self._sent
        how = f"exit status {ended}" if ended >= 0 else signal.Signals(-ended).name
        say(f"a protocol's file ended the program ({how}) before it was done")
        return 2


def say(line: str) -> None:
    """Print a line on standard error, even if a user's file has closed the stream."""
    text = f"mtrrzap: {line}\n"
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        with suppress(OSError):
            _write(2, text.encode(errors="backslashreplace"))
