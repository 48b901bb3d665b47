"""What commands print and write.

A failure to print a line about work that is done must not look like a failure of the work: standard
output may be closed or full, but the trace or the initrd is written.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from mtrrzap.errors import UserError


def note(line: str) -> None:
    """Print a line on standard error, if that can be."""
    _print(line, sys.stderr)


def result(line: str) -> None:
    """Print a line on standard output, or else on standard error."""
    if not _print(line, sys.stdout):
        note(line)


@contextmanager
def writing(place: Path, remedy: str = "choose another place") -> Iterator[None]:
    """Turn a file that cannot be written into a ``UserError``."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot be written: {error.strerror}", place=str(place), mend=remedy
        ) from error


def write(path: Path, pieces: Iterable[str] | bytes) -> None:
    """Write text or bytes to a file. Raises ``UserError`` if that fails."""
    with writing(path):
        if isinstance(pieces, bytes):
            path.write_bytes(pieces)
            return
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(pieces)


def printable(text: str) -> str:
    """Return text with ``\\xff`` for each byte of a file's name that is not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _print(line: str, stream: TextIO | None) -> bool:
    """Print a line; return whether it was printed."""
    if stream is None:
        return False
    try:
        stream.write(printable(line) + "\n")
        stream.flush()
    except (OSError, ValueError):
        _discard(stream)
        return False
    return True


def _discard(stream: TextIO) -> None:
    """Let what is still in the stream's buffer go nowhere: Python ends with an error otherwise."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
