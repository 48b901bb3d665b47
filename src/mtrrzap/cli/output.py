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

from mtrrzap.errors import UserError, printable
from mtrrzap.guest.files import replacing


def note(line: str) -> None:
    """Print a line on standard error, if that can be."""
    _print(line, sys.stderr)


def result(line: str) -> None:
    """Print a line on standard output, or else on standard error."""
    if not _print(line, sys.stdout):
        note(line)


def show(text: str) -> None:
    """Print lines on standard output that may quote a user's file."""
    sys.stdout.write(printable(text, keep="\n"))


def put(pieces: Iterable[str] | bytes, path: Path | None = None) -> None:
    """Write a file, or print its text: as it is in a pipe, so that it cannot steer a terminal."""
    if path is not None:
        write(path, pieces)
        return
    if isinstance(pieces, bytes):
        sys.stdout.buffer.write(pieces)
        return
    terminal = sys.stdout.isatty()
    sys.stdout.writelines(printable(p, keep="\n\t") if terminal else p for p in pieces)


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
    """Write text or bytes to a file. If that fails, nothing changes: raises ``UserError``."""
    with writing(path), replacing(path) as stream:
        if isinstance(pieces, bytes):
            stream.write(pieces)
        else:
            # A file's name need not be UTF-8, and may turn up in the text.
            stream.writelines(piece.encode(errors="backslashreplace") for piece in pieces)


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
