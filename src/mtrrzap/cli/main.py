"""The console script: registers the sub-commands and turns errors into one line and a status."""

import contextlib
import errno
import io
import os
import signal
import sys
from typing import NoReturn

import typer

from mtrrzap import __version__
from mtrrzap.cli import apart
from mtrrzap.cli.audit import audit
from mtrrzap.cli.check import check
from mtrrzap.cli.compare import compare
from mtrrzap.cli.emit import emit
from mtrrzap.cli.explain import explain
from mtrrzap.cli.export import export
from mtrrzap.cli.import_ import import_
from mtrrzap.cli.initrd import initrd
from mtrrzap.cli.kernel import app as kernel_app
from mtrrzap.cli.memtype import memtype
from mtrrzap.cli.policies import policies
from mtrrzap.cli.record import record
from mtrrzap.cli.report import report
from mtrrzap.cli.requests import requests
from mtrrzap.cli.run import run
from mtrrzap.cli.show import show
from mtrrzap.cli.sweep import app as sweep_app
from mtrrzap.errors import UserError, printable

app = typer.Typer(
    name="mtrrzap",
    help="A workbench for the zaps that KVM makes when a guest changes its MTRRs or CR0.CD.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_FIRST = (compare, explain, audit, check, show, requests, policies, memtype)
for _command in (*_FIRST, emit, import_, report, export, initrd):  # the order of the help
    app.command(_command.__name__.rstrip("_"))(_command)
# Whatever follows -- is for QEMU.
app.command("record", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    record
)
app.command("run")(run)
app.add_typer(sweep_app, name="sweep")
app.add_typer(kernel_app, name="kernel")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"mtrrzap {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True),
) -> None:
    """Take the options that come before a sub-command."""


class _Closed(io.TextIOBase):
    """Stands in where the caller closed standard output and Python left nothing to write to.

    What must be printed fails then, and what need not be is not missed.
    """

    def write(self, _text: str) -> int:
        """Fail as a write to a closed descriptor does."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 a finding, 2 bad input or usage, 130 Ctrl-C."""
    if apart.is_needed(sys.argv[1:]):
        apart.run(_main)
    _main()


def _main() -> NoReturn:
    if sys.stdout is None:
        sys.stdout = _Closed()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminated)
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        _fail(str(error))
    except typer.TyperException as error:
        _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", status=130)
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        _leave(0)
    except OSError as error:
        # Commands turn errors of the files that they open into UserError: what is left is output.
        _fail(f"standard output: {error.strerror}; what was printed is not whole")
    except (ValueError, AttributeError):
        if not any(each is None or each.closed for each in (sys.stdout, sys.stderr)):
            raise
        _fail("a protocol's file closes standard output; what was printed is not whole")
    raise SystemExit(status if isinstance(status, int) else 0)


def _terminated(number: int, _frame: object) -> NoReturn:
    """Leave as after an error, so that no file stays half written."""
    _leave(128 + number)


def _usage(error: typer.TyperException) -> NoReturn:
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
    if not isinstance(sys.stdout, _Closed):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(status)
