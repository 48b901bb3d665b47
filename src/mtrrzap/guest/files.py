"""Files that the user names: checked before any work starts, and replaced only when whole.

Every check raises ``UserError``. Its place is ``role``: what the file is to the caller.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

from mtrrzap.errors import UserError

TEMPORARY = ".tmp-"
"""How the name of a file begins that is being written."""
_LONGEST_NAME = 255


@contextmanager
def _errors(verb: str, path: Path, role: str, mend: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot {verb} {path}: {error.strerror}", place=role, mend=mend) from error


def readable(path: Path, role: str, mend: str) -> None:
    """Raise ``UserError`` unless this is a regular file that can be read.

    Pipes are refused: each pass reads the file again, and opening a pipe may block.
    """
    with _errors("read", path, role, mend):
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path} is not a regular file", place=role, mend=mend)
        with path.open("rb") as stream:
            stream.read(1)


def writable(path: Path, role: str, *, force: bool) -> None:
    """Raise ``UserError`` unless a file can be written here. Changes nothing."""
    kept(path, role, force=force)
    with _writing(path, role):
        if not _exists(path):
            _try_new(path)
        elif not path.is_file():
            what = "a directory" if path.is_dir() else "not a regular file"
            raise UserError(f"{path} is {what}", place=role, mend="name a file")
        else:
            with path.open("ab"):
                pass


def kept(path: Path, role: str, *, force: bool) -> None:
    """Raise ``UserError`` if a regular file would be overwritten without ``force``."""
    with _writing(path, role):
        if _exists(path) and path.is_file() and not force:
            raise UserError(
                f"{path} exists already", place=role, mend="choose another name, or use force"
            )


def _writing(path: Path, role: str) -> AbstractContextManager[None]:
    mend = "choose a file in a directory that exists and that you may write to"
    return _errors("write", path, role, mend)


def _exists(path: Path) -> bool:
    """Tell if there is such a file; raise ``OSError`` where that is unknown (``Path.exists`` does
    not for all errors)."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _try_new(path: Path) -> None:
    """Create the file and remove it; for a symbolic link to nothing, do that to its target."""
    target = Path(os.path.realpath(path))
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    target.unlink()


def same_file(one: Path, other: Path) -> bool:
    """Tell if two names mean one file, which need not exist yet."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def distinct(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """Raise ``UserError`` if an output is also an input or another output; keys are roles."""
    seen = dict(inputs)
    for role, path in outputs.items():
        for other, taken in seen.items():
            if same_file(path, taken):
                raise UserError(
                    f"{path} is also the file of {other}", place=role, mend="name another file"
                )
        seen[role] = path


# ---- writing ----------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a stream whose bytes become the file once all are on disk; else nothing changes.

    A symbolic link stays, and its target is replaced. What is not a regular file (a pipe, a
    terminal) is written to directly.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            yield stream
        return
    target = Path(os.path.realpath(path))
    name = os.fsencode(f"{TEMPORARY}{token_hex(4)}-{target.name}")[:_LONGEST_NAME]
    temporary = target.with_name(os.fsdecode(name))
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if target.exists():
                os.fchmod(stream.fileno(), stat.S_IMODE(target.stat().st_mode))
        moved(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def partial(path: Path) -> Path:
    """Return where a file is written that takes long: its beginning is kept, whatever happens."""
    target = Path(os.path.realpath(path))
    return target.parent / f"{target.name}.part"


def moved(source: Path, target: Path) -> None:
    """Give a file that is on disk another name, and make that last."""
    source.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
