"""The commands and their order in the help; a command's module is loaded when it is named."""

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from mtrrzap import __version__

COMMANDS = (
    *("compare", "explain", "audit", "check", "show", "requests", "policies", "memtype"),
    *("emit", "import", "report", "export", "initrd", "record", "run", "sweep", "kernel"),
)
_LOOK: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
_QEMU_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""``record`` hands whatever follows ``--`` to QEMU."""


class _Commands(TyperGroup):
    """Loads one command's module: all of them together take a second."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Their names, among which the nearest to one that does not exist is looked for.
        self.commands = dict.fromkeys(COMMANDS, typer.core.TyperCommand(None))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        return _loaded(cmd_name) if cmd_name in COMMANDS else None


def _loaded(name: str) -> Any:
    module = import_module(f"mtrrzap.cli.{'import_' if name == 'import' else name}")
    if hasattr(module, "app"):
        group: Any = typer.main.get_command(module.app)
        group.name = name
        for each in (group, *group.commands.values()):
            each.short_help = _summary(each.help)
        return group
    function = getattr(module, module.__name__.rpartition(".")[2])
    holder = typer.Typer(**_LOOK)
    settings = _QEMU_ARGUMENTS if name == "record" else None
    holder.command(name, short_help=_summary(function.__doc__), context_settings=settings)(function)
    return typer.main.get_command(holder)


def _summary(text: str | None) -> str:
    """Return the first paragraph; typer would cut it."""
    return " ".join((text or "").partition("\n\n")[0].split())


app = typer.Typer(
    name="mtrrzap",
    cls=_Commands,
    help="A workbench for the zaps that KVM makes when a guest changes its MTRRs or CR0.CD.",
    no_args_is_help=True,
    **(_LOOK | {"add_completion": True}),
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"mtrrzap {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Take the options that come before a sub-command."""
