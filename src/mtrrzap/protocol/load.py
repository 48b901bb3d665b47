"""Find a protocol: one that comes with the package, or a function in a user's file."""

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import ModuleType

from mtrrzap.errors import StoppedError, UserError
from mtrrzap.protocol.registry import PROTOCOLS, Call, Protocol, protocol


def load(spec: str | Call | Protocol) -> Protocol:
    """Return a protocol.

    ``spec`` is the name of one that comes with the package, ``path/to/file.py:function``, a
    generator function ``(vm, ranges)``, or a protocol, which is returned as it is.

    Raises:
        UserError: if there is no such protocol, the file cannot be read or run, or the function is
            not a protocol's.
    """
    if isinstance(spec, Protocol):
        return spec
    if not isinstance(spec, str):
        return protocol(spec, "a Python function")
    if spec in PROTOCOLS:
        return PROTOCOLS[spec]
    path, colon, function = spec.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise UserError(
            f"unknown protocol {spec!r}",
            mend=f"use one of {', '.join(PROTOCOLS)}, or path/to/file.py:function",
        )
    call = getattr(_module(Path(path)), function, None)
    if call is None:
        raise UserError(f"no function {function!r} in this file", place=path)
    if not inspect.isfunction(call):
        raise UserError(f"{function!r} is not a function", place=path)
    with blamed(Path(path)):
        return protocol(call, path)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"mtrrzap_user_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError("no such file", place=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that annotations of the file's own classes resolve
    with blamed(path, loading=True):
        spec.loader.exec_module(module)
    return module


@contextmanager
def blamed(path: Path, *, loading: bool = False) -> Iterator[None]:
    """Turn what a user's file raises, or its exit, into one line that names the file's line.

    An error that did not come through the file passes, unless the file is ``loading``.

    Raises:
        UserError: naming the file and the line.
    """
    try:
        yield
    except (UserError, StoppedError, KeyboardInterrupt):
        raise
    except BaseException as error:
        line = _line(error, path)
        if line is None and not loading:
            raise
        what = _said(error)
        if isinstance(error, SyntaxError):  # whose text names file and line again
            what = f"{type(error).__name__}: {error.msg}"
        if isinstance(error, SystemExit):
            what = "the file exits the program (SystemExit)"
        raise UserError(what, place=f"{path}:{line or 1}") from error


def _said(error: BaseException) -> str:
    """Return an error's type and text; a user's error need not be able to say its text."""
    try:
        text = f": {error}"
    except Exception:
        text = ""
    return f"{type(error).__name__}{text}"


def _line(error: BaseException, path: Path) -> int | None:
    """Return the line of the file at which an error came up, or None if it did not."""
    names = (str(path), str(path.absolute()))
    if isinstance(error, SyntaxError) and error.filename in names:
        return error.lineno or 1
    frames = walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename in names]
    return lines[-1] if lines else None
