"""Open a trace: by path, by the name of a shipped one, as text, CSV or Parquet."""

import io
import os
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

from mtrrzap.errors import UserError
from mtrrzap.guest.tabular import CSV_FIRST, PARQUET_FIRST, at_most, read_csv, read_parquet
from mtrrzap.guest.trace import MAGIC, Trace
from mtrrzap.guest.trace_reader import lines_of, parse

_PARQUET = 1 << 30
"""Bytes of a Parquet file, at most."""


def load(source: str | os.PathLike[str]) -> Trace:
    """Return one trace: a file, or a shipped recording or scenario by its name (``seabios-8``).

    A file may be a trace, or its CSV or Parquet as ``mtrrzap export`` writes them. A file wins over
    a shipped trace of the same name.

    Raises:
        UserError: if the file does not exist, cannot be read or is not a trace; names the line.
    """
    path = Path(source)
    if path.name == str(path) and not os.path.lexists(path):
        known = dict(shipped()) | dict(scenarios())
        if path.name in known:
            return known[path.name]
        if not path.suffix:
            raise UserError(
                "no such file or shipped trace",
                place=str(path),
                mend=f"shipped are: {', '.join(known)}",
            )
    try:
        with path.open("rb") as stream:
            return read(stream, str(path))
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", place=str(path), mend="name a trace file"
        ) from error


def read(stream: io.BufferedReader, name: str) -> Trace:
    """Return the trace in a stream, which may be a pipe: it is read once."""
    first = stream.peek(len(CSV_FIRST))
    if first.startswith(PARQUET_FIRST):
        data = stream.read(_PARQUET + 1)
        if len(data) > _PARQUET:
            raise UserError(f"more than {_PARQUET >> 20} MiB", place=name, mend="cut the trace")
        return read_parquet(data, name)
    reader = read_csv if first.startswith(CSV_FIRST.encode()) else parse
    # The reader itself refuses bytes that are not UTF-8, and carriage returns.
    text = io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline="\n")
    return reader(at_most(lines_of(text), name), name)


def is_trace(first: bytes) -> bool:
    """Tell by a file's first 16 bytes whether ``load`` would take it for a trace."""
    return first.startswith((MAGIC.encode(), CSV_FIRST.encode(), PARQUET_FIRST))


def load_all(paths: Iterable[str | os.PathLike[str]]) -> list[tuple[str, Trace]]:
    """Return the traces of these sources by name; all shipped recordings if there are none."""
    return [(os.fspath(path), load(path)) for path in paths] or shipped()


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
                name = item.name.removesuffix(".trace")
                yield name, parse(lines_of(stream), name)
