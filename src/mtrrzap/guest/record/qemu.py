"""One QEMU process and its channels, drained by one loop: no threads, no files, no sockets on disk.

QEMU inherits one end of each channel: its log (a pipe), the gdb stub, QMP, the guest's console and
debug console (socket pairs). The loop reads every channel that could block QEMU when it is full.
"""

import contextlib
import ctypes
import fcntl
import os
import pty
import select
import selectors
import signal
import socket
import subprocess
import termios
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Self

from mtrrzap.guest.record.asmlog import LogScanner

_LOG_PIPE_SIZE = 1 << 20
_CHUNK = 1 << 20
_KEEP_STDERR = 1 << 16
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_PATIENCE = 10.0
"""Seconds for QEMU to end after it closed a channel."""


def _die_with_parent(terminal: int | None) -> None:
    """Make the child end with the recorder, even if the recorder is killed.

    The kernel kills the child. If the child is a wrapper script, its QEMU gets SIGHUP instead,
    because the recorder's end of the session's terminal closes; QEMU then quits.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if terminal is not None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


class GoneError(Exception):
    """QEMU is gone, or closed a channel: nothing more will come from it."""


class StoppedError(Exception):
    """A signal stops the recording; the text says which."""


class StopRequest:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag and a byte that wakes the loop.

    A handler that raises could interrupt any line, for example between an event and its counter.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._old: dict[int, object] = {}

    def _handle(self, number: int, _frame: object) -> None:
        self.signal = number
        with contextlib.suppress(OSError):
            self._writer.send(b"!", socket.MSG_DONTWAIT)

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self.reader.close()
        self._writer.close()

    def check(self) -> None:
        """Raise ``StoppedError`` once a signal came."""
        if self.signal is not None:
            raise StoppedError(f"interrupted by {signal.Signals(self.signal).name}")


class Qemu:
    """A running QEMU. Use as a context manager: leaving it kills QEMU and closes every channel."""

    def __init__(
        self,
        command: Sequence[str],
        stop: StopRequest,
        *,
        debug: bool = False,
        log_ranges: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Start QEMU with ``command`` plus the channels; ``debug`` adds the gdb stub.

        ``log_ranges`` limits the log of translated code to these linear addresses, both ends
        included.

        Raises ``OSError`` if the program cannot be started.
        """
        self.log = LogScanner()
        self.console = bytearray()
        self.debugcon = bytearray()
        self.stderr = bytearray()
        self.on_console: Callable[[bytes], None] = lambda _data: None
        self._stop = stop
        self._selector = selectors.DefaultSelector()
        self._handlers: dict[int, Callable[[bytes], None]] = {}
        self._open: list[socket.socket | int] = []
        self._out: dict[str, socket.socket] = {}
        self._child: list[socket.socket | int] = []
        self._log_fd, log = self._pipe(self.log.feed)
        # Larger is faster; an unprivileged user may have used up what the system allows.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._log_fd, fcntl.F_SETPIPE_SZ, _LOG_PIPE_SIZE)
        self._stderr_fd, output = self._pipe(self._keep_stderr)
        terminal = self._terminal()
        arguments = ["-d", "in_asm,cpu_reset", "-D", f"/dev/fd/{log}"]
        if log_ranges:
            arguments += ["-dfilter", ",".join(f"{a:#x}..{b:#x}" for a, b in log_ranges)]
        arguments += self._channels(debug=debug)
        self._selector.register(stop.reader, selectors.EVENT_READ)
        self.process = self._start([*command[:1], *arguments, *command[1:]], output, terminal)

    def _terminal(self) -> int | None:
        """Make a terminal that nobody uses; return QEMU's end, or None if that is impossible."""
        try:
            mine, other = pty.openpty()
        except OSError:
            return None
        self._open.append(mine)
        self._child.append(other)
        return other

    def _channels(self, *, debug: bool) -> list[str]:
        """Make the sockets and return the arguments that give QEMU their other ends."""
        uses = {
            "qmp": ["-mon", "chardev=mtrrzap-qmp,mode=control"],
            "console": ["-serial", "chardev:mtrrzap-console"],
            "debugcon": ["-device", "isa-debugcon,iobase=0x402,chardev=mtrrzap-debugcon"],
        }
        if debug:
            uses["gdb"] = ["-gdb", "chardev:mtrrzap-gdb"]
        arguments = []
        for name, use in uses.items():
            fd = self._socket(name)
            arguments += ["-chardev", f"socket,id=mtrrzap-{name},fd={fd}", *use]
        return arguments

    def _start(
        self, command: list[str], output: int, terminal: int | None
    ) -> subprocess.Popen[bytes]:
        """Start the process with its ends of the channels, and close them here."""
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[end if isinstance(end, int) else end.fileno() for end in self._child],
                start_new_session=True,
                preexec_fn=lambda: _die_with_parent(terminal),
            )
        except OSError:
            self._close()
            raise
        finally:
            for end in self._child:
                _close_end(end)

    # ---- channels

    def _pipe(self, handler: Callable[[bytes], None]) -> tuple[int, int]:
        """Make a pipe that QEMU writes to; return its ends, ours and QEMU's."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self._open.append(reader)
        self._child.append(writer)
        self._listen(reader, handler)
        return reader, writer

    def _socket(self, name: str) -> int:
        """Make a socket pair and return the number of QEMU's end."""
        mine, other = socket.socketpair()
        mine.setblocking(False)
        self._open.append(mine)
        self._out[name] = mine
        self._child.append(other)
        known = {"console": self._keep_console, "debugcon": self.debugcon.extend}
        self._listen(mine.fileno(), known.get(name, lambda _data: None))
        return other.fileno()

    def _listen(self, fd: int, handler: Callable[[bytes], None]) -> None:
        self._handlers[fd] = handler
        self._selector.register(fd, selectors.EVENT_READ)

    def attach(self, name: str, handler: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Give the input of a channel to ``handler``; return the function that sends to it."""
        mine = self._out[name]
        self._handlers[mine.fileno()] = handler

        def send(data: bytes) -> None:
            try:
                mine.sendall(data)
            except BlockingIOError as error:
                raise GoneError(f"QEMU does not read its {name} channel") from error
            except OSError as error:
                raise GoneError(self.how_it_ended()) from error

        return send

    def _keep_console(self, data: bytes) -> None:
        self.console += data
        self.on_console(data)

    def _keep_stderr(self, data: bytes) -> None:
        self.stderr = (self.stderr + data)[-_KEEP_STDERR:]

    # ---- the loop

    def turn(self, until: float) -> bool:
        """Wait for input until the monotonic time ``until``, and handle it; False if none came.

        Raises ``StoppedError`` at a signal and ``GoneError`` when QEMU has ended and all is read.
        """
        ready = self._selector.select(max(0.0, until - monotonic()))
        for key, _mask in ready:
            if key.fileobj is not self._stop.reader:
                self._read(key.fd)
        self._stop.check()
        if not self._handlers:
            raise GoneError(self.how_it_ended())
        return bool(ready)

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self._handlers[fd](data)
            return True
        self._selector.unregister(fd)
        del self._handlers[fd]
        return False

    def drain_log(self) -> None:
        """Read all that is in the log pipe now. With the vCPUs stopped that is all they logged."""
        while self._log_fd in self._handlers and self._read(self._log_fd):
            pass

    # ---- the end

    def how_it_ended(self) -> str:
        """Return how the process ended, with the first error that QEMU printed, if any."""
        status = self._exit_status()
        if status is None:
            return "QEMU closed its channels"
        if status < 0:
            return f"QEMU was killed by {_signal_name(-status)}"
        while self._stderr_fd in self._handlers and self._read(self._stderr_fd):
            pass
        lines = self.stderr.decode("utf-8", "replace").strip().splitlines()
        errors = [line for line in lines if "warning:" not in line]
        words = f": {errors[0]}" if errors and status else ""
        return f"QEMU ended by itself with status {status}{words}"

    def _exit_status(self) -> int | None:
        """Wait for the process; return its status, negative for a signal, or None if it runs on.

        The process stays a zombie: its number is that of the group that ``__exit__`` kills.
        """
        if self.process.returncode is not None:
            return self.process.returncode
        handle = os.pidfd_open(self.process.pid)
        try:
            select.select([handle], [], [], _PATIENCE)
        finally:
            os.close(handle)
        ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _close(self) -> None:
        self._selector.close()
        for end in self._open:
            _close_end(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill QEMU's process group, and wait for QEMU."""
        # A group that we may not kill (sudo) gets SIGHUP when the terminal closes.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._close()
        self.process.wait()


def _signal_name(number: int) -> str:
    """Return the signal's name; the real-time ones have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _close_end(end: socket.socket | int) -> None:
    if isinstance(end, int):
        os.close(end)
    else:
        end.close()
