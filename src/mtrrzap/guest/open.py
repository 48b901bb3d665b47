"""Open the traces that a command line names; the only place that reads trace files."""

import os
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

from mtrrzap.errors import UserError
from mtrrzap.guest.trace import Trace, lines_of, load


def load_file(path: Path) -> Trace:
    """Read one trace. Raises ``UserError`` if it cannot be opened or is no trace."""
    try:
        # Bytes that are no UTF-8, and carriage returns, are for the reader to refuse.
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
            return load(lines_of(stream), str(path))
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", place=str(path), mend="name a trace file"
        ) from error


def shipped() -> list[tuple[str, Trace]]:
    """Return the recordings that ship with the project, by name, fewest vCPUs first."""
    return sorted(_folder("recordings"), key=lambda pair: (pair[1].header.vcpus, pair[0]))


def scenarios() -> list[tuple[str, Trace]]:
    """Return the small hand-written traces that ship with the project, by name (docs/audit.md)."""
    return sorted(_folder("scenarios"))


def _folder(name: str) -> Iterator[tuple[str, Trace]]:
    folder = files("mtrrzap").joinpath("data").joinpath(name)
    for item in folder.iterdir() if folder.is_dir() else ():
        if item.name.endswith(".trace"):
            with item.open(encoding="utf-8") as stream:
                yield item.name.removesuffix(".trace"), load(lines_of(stream), item.name)


def named(paths: Iterable[Path]) -> list[tuple[str, Trace]]:
    """Return the traces of these files by path, or the shipped ones if there are none."""
    return [(str(path), one(path)) for path in paths] or shipped()


def one(path: Path) -> Trace:
    """Return one trace: a file, or a shipped recording or scenario by its name, ``seabios-8``."""
    if path.name == str(path) and not os.path.lexists(path):
        known = dict(shipped()) | dict(scenarios())
        if path.name in known:
            return known[path.name]
        if not path.suffix:
            names = ", ".join(known)
            raise UserError(
                "no such file or shipped recording", place=str(path), mend=f"shipped are: {names}"
            )
    return load_file(path)
