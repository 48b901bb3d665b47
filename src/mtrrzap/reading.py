"""Read a file that somebody else has made: it may be endless, as /dev/zero is, or just huge."""

from pathlib import Path

from mtrrzap.errors import UserError


def whole(path: Path, mend: str, *, mib: int = 1) -> bytes:
    """Return the bytes of a file of at most so many MiB.

    Raises:
        UserError: with the remedy ``mend``, if it cannot be read or has more.
    """
    limit = mib << 20
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise UserError(problem, place=str(path), mend=mend) from error
    if len(data) > limit:
        raise UserError(f"more than {mib} MiB", place=str(path), mend=mend)
    return data


def whole_text(path: Path, mend: str, *, mib: int = 1) -> str:
    """Return the text of such a file; raise ``UserError`` also if it is not UTF-8."""
    try:
        return whole(path, mend, mib=mib).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8", place=str(path), mend=mend) from error
