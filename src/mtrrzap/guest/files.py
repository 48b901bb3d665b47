"""Files that the user names: checked before anything starts, so that none is lost or damaged."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from mtrrzap.errors import UserError

_WRITE_MEND = "choose a file in a directory that exists and that you may write to"
_READ_PROBE = 1


def _mode(path: Path) -> int | None:
    """Return the type and mode, or None if there is no such file.

    ``Path.exists`` raises for some names, for example too long ones; here every error is raised.
    """
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def readable(path: Path, option: str, mend: str) -> None:
    """Raise ``UserError`` unless this is a regular file that can be read.

    A pipe can be read only once, but each pass reads the file again; and opening one may block.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UserError(f"{path} is no regular file", place=option, mend=mend)
        with path.open("rb") as stream:
            stream.read(_READ_PROBE)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", place=option, mend=mend) from error


def writable(path: Path, option: str, *, force: bool) -> None:
    """Raise ``UserError`` unless a file can be written here. Changes nothing."""
    try:
        mode = _mode(path)
        if mode is None:
            _try_new(path)
        elif not stat.S_ISREG(mode):
            what = "is a directory" if stat.S_ISDIR(mode) else "is no regular file"
            raise UserError(f"{path} {what}", place=option, mend="name a file")
        elif not force:
            raise UserError(
                f"{path} exists already", place=option, mend="choose another name or add --force"
            )
        else:
            with path.open("ab"):
                pass
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}", place=option, mend=_WRITE_MEND
        ) from error


def kept(path: Path, option: str, *, force: bool) -> None:
    """Raise ``UserError`` if a regular file would be overwritten that nobody said may be."""
    try:
        mode = _mode(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}", place=option, mend=_WRITE_MEND
        ) from error
    if mode is not None and stat.S_ISREG(mode) and not force:
        raise UserError(
            f"{path} exists already", place=option, mend="choose another name or add --force"
        )


def _try_new(path: Path) -> None:
    """Make the file and remove it again; for a symbolic link to nothing, that is its target."""
    target = Path(os.path.realpath(path))
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    target.unlink()


def same_file(one: Path, other: Path) -> bool:
    """Whether two names mean one file, which need not exist yet."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def distinct(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """Raise ``UserError`` if an output is also an input or another output; keys are options."""
    seen = dict(inputs)
    for option, path in outputs.items():
        for other, taken in seen.items():
            if same_file(path, taken):
                raise UserError(
                    f"{path} is also the file of {other}", place=option, mend="name another file"
                )
        seen[option] = path
