"""What ``mtrrzap check`` refuses because it would have no effect beside its other options."""

from dataclasses import fields
from typing import TYPE_CHECKING

from mtrrzap.checker.check import SAFETY
from mtrrzap.cli.options import unused
from mtrrzap.errors import UserError

if TYPE_CHECKING:
    from mtrrzap.cli.check import FileOptions, ModelOptions, PrintOptions, SearchOptions

_CONTINUED = {
    *("protocols", "replay", "continued", "properties", "max_states", "max_seconds", "max_gb"),
    *("first", "engine", "json", "brief"),
}


def refuse_unused(
    model: "ModelOptions", search: "SearchOptions", files: "FileOptions", shown: "PrintOptions"
) -> None:
    """Raise ``UserError`` if an option is given that has no effect beside the others."""
    every = [field.name for group in (model, search, files, shown) for field in fields(group)]
    every.append("protocols")

    def only(option: str, *used: str) -> None:
        unused(f"with {option}", *(name for name in every if name not in used))

    if shown.findings:
        only("--findings", "findings")
    elif files.replay is not None and files.continued:
        only("--continue", *_CONTINUED)
        _refuse_undecided(search.properties)
    elif files.replay is not None:
        only("--replay", "protocols", "replay")
    elif files.verify is not None:
        only("--verify", "protocols", "verify")
    else:
        unused("without --replay", "continued")
        _refuse_in_search(model, search)
    if shown.json:
        unused("with --json", "brief", "show", "witness")
    if shown.brief:
        unused("with --brief", "show")


def _refuse_in_search(model: "ModelOptions", search: "SearchOptions") -> None:
    if model.requests_of is None:
        unused("without --requests-of", "policy")
    else:
        unused("with --requests-of", "ranges")
    if search.strategy == "bfs":
        unused("with --strategy bfs", "runs", "seed")
    else:
        unused(f"with --strategy {search.strategy}", "engine", "symmetry", "max_states", "max_gb")
    if model.vcpus == "any":
        unused("with --vcpus any", "requests", "first")


def _refuse_undecided(properties: list[str] | None) -> None:
    for name in properties or ():
        if name not in SAFETY:
            raise UserError(
                f"--continue does not decide {name!r}",
                place="properties",
                mend=f"use {', '.join(SAFETY)}",
            )
