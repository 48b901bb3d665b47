"""The console script: runs the command line and turns errors into one line and a status.

It loads nothing but a little of the standard library before it can deal with Ctrl-C.
"""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from mtrrzap.cli import apart
from mtrrzap.errors import StoppedError, printable

if TYPE_CHECKING:
    import typer


class _Closed(io.TextIOBase):
    """Stands in where the caller closed standard output and Python left nothing to write to.

    What must be printed fails then, and what need not be is not missed.
    """

    @property
    def buffer(self) -> "_Closed":
        """Bytes cannot be written either."""
        return self

    def write(self, _text: str | bytes) -> int:
        """Fail as a write to a closed descriptor does."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Let Ctrl-C end the process at once while modules load, which might take it for an error.

    That ends when the command begins (``begin``): before, there is nothing to lose.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        begin()


def begin() -> None:
    """Make Ctrl-C a ``KeyboardInterrupt`` again: a command may have something to finish."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop(_number: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"mtrrzap: interrupted\n")
    os._exit(130)


_CUT_OFF = 128 + signal.SIGPIPE


def main() -> None:
    """Run the command line.

    Exit status: 0 done, 1 a finding, 2 bad input or usage, 130 Ctrl-C, 141 a pipe whose reader has
    left before the end, as a shell tells of programs that SIGPIPE ends.
    """
    if apart.is_needed(sys.argv[1:]):
        apart.run(_main)
    _main()


def _main() -> NoReturn:
    try:
        status = _run()
    except KeyboardInterrupt:
        _fail("interrupted", status=130)
    except SystemExit as left:
        # Rich and typer leave with 1 when the reader of a pipe has left; here that is a finding.
        if isinstance(left.__context__, BrokenPipeError):
            _leave(_CUT_OFF)
        raise
    raise SystemExit(status)


def _run() -> int:
    if sys.stdout is None:
        sys.stdout = _Closed()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminated)
    with _loading():
        import typer

        from mtrrzap.cli.app import app
        from mtrrzap.errors import UserError

        try:
            status = app(standalone_mode=False, prog_name="mtrrzap")
            sys.stdout.flush()
        except UserError as error:
            _fail(str(error))
        except typer.TyperException as error:
            _usage(error)
        except typer.Abort:
            raise KeyboardInterrupt from None
        except BrokenPipeError:
            _leave(_CUT_OFF)
        except OSError as error:
            # Commands turn errors of files that they open into UserError: what is left is output.
            _fail(f"standard output: {error.strerror}; what was printed is not whole")
        except (ValueError, AttributeError):
            if not any(each is None or each.closed for each in (sys.stdout, sys.stderr)):
                raise
            _fail("a protocol's file closes standard output; what was printed is not whole")
    return status if isinstance(status, int) else 0


def _terminated(number: int, _frame: object) -> NoReturn:
    """Leave as after an error, so that no file stays half written."""
    _discard_output()
    raise StoppedError(128 + number)


def _usage(error: "typer.TyperException") -> NoReturn:
    """Say on one line what is wrong with the arguments; the help asked for by none is not wrong."""
    command = getattr(getattr(error, "ctx", None), "command_path", "mtrrzap")
    message = error.format_message().rstrip(".")
    if "\n" in message:
        sys.stdout.write(printable(message, keep="\n") + "\n")
        raise SystemExit(2)
    _fail(f"{message}; see '{command} --help'")


def _fail(line: str, status: int = 2) -> NoReturn:
    apart.say(printable(line))
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Exit without a second complaint about what could not be printed."""
    _discard_output()
    raise SystemExit(status)


def _discard_output() -> None:
    if not isinstance(sys.stdout, _Closed):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
