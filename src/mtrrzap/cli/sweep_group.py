"""``mtrrzap sweep SPEC`` runs, ``mtrrzap sweep show RESULTS`` shows: one group of two commands."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from mtrrzap.cli.sweep import sweep
from mtrrzap.cli.sweep_show import sweep_show


class _RunUnlessNamed(TyperGroup):
    """Takes a first argument that names no command for the spec of a sweep to run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name before a spec."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunUnlessNamed,
    help="Run a grid of cells, on this machine or on a cluster, and show the results.\n\n"
    "'mtrrzap sweep SPEC.toml -o results/' runs what is missing, as 'sweep run' does.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(sweep)
app.command("show")(sweep_show)
