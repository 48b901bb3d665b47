"""Lines for the user about work that is done: a failure to print them must not look like its own.

Standard output may be closed or full; the trace or the initrd is written all the same.
"""

import os
import sys
from contextlib import suppress
from typing import TextIO


def note(line: str) -> None:
    """Print a line on standard error, if that can be."""
    _print(line, sys.stderr)


def result(line: str) -> None:
    """Print a line on standard output, or else on standard error."""
    if not _print(line, sys.stdout):
        note(line)


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
