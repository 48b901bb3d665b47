"""Open the traces that a command line names; the only place that reads trace files."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from mtrrzap.errors import UserError
from mtrrzap.guest.trace import Trace, lines_of, load


def load_file(path: Path) -> Trace:
    """Read one trace. Raises ``UserError`` if it cannot be opened or is no trace."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return load(lines_of(stream), str(path))
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", place=str(path), mend="name a trace file"
        ) from error


def shipped() -> list[tuple[str, Trace]]:
    """Return the recordings that ship with the project, by name, fewest vCPUs first."""
    folder = files("mtrrzap").joinpath("data/recordings")
    found = []
    for item in folder.iterdir():
        if item.name.endswith(".trace"):
            with item.open(encoding="utf-8") as stream:
                found.append((item.name.removesuffix(".trace"), load(lines_of(stream), item.name)))
    return sorted(found, key=lambda pair: (pair[1].header.vcpus, pair[0]))


def named(paths: Iterable[Path]) -> list[tuple[str, Trace]]:
    """Return the traces of these files, or the shipped ones if there are none."""
    return [(path.name.removesuffix(".trace"), one(path)) for path in paths] or shipped()


def one(path: Path) -> Trace:
    """Return one trace: a file, or a shipped recording by its name, ``seabios-8``."""
    if not path.exists() and path.name == str(path):
        recordings = dict(shipped())
        if path.name in recordings:
            return recordings[path.name]
        if not path.suffix:
            names = ", ".join(recordings)
            raise UserError(
                "no such file or shipped recording", place=str(path), mend=f"shipped are: {names}"
            )
    return load_file(path)
