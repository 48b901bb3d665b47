"""The console script: registers the sub-commands and turns errors into one line and a status."""

import sys

import typer

from mtrrzap import __version__
from mtrrzap.commands.audit import audit
from mtrrzap.commands.compare import compare
from mtrrzap.commands.explain import explain
from mtrrzap.commands.initrd import initrd
from mtrrzap.commands.policies import policies
from mtrrzap.commands.record import record
from mtrrzap.commands.requests import requests
from mtrrzap.commands.show import show
from mtrrzap.errors import UserError

app = typer.Typer(
    name="mtrrzap",
    help="A workbench for the zaps that KVM makes when a guest changes its MTRRs or CR0.CD.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (compare, explain, audit, show, requests, policies, initrd):
    app.command(_command.__name__)(_command)
# Whatever follows -- is for QEMU.
app.command("record", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    record
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"mtrrzap {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True),
) -> None:
    """Take the options that come before a sub-command."""


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 a finding, 2 bad input or usage."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"mtrrzap: {error}\n")
        raise SystemExit(2) from None
