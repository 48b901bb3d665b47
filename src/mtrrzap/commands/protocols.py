"""Find the protocol that a command line names: one of ours, or a function in a user's file."""

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS, Protocol
from mtrrzap.protocol.registry import protocol


def load(name: str) -> Protocol:
    """Return a protocol by its name, or from ``path/to/file.py:function``.

    Raises:
        UserError: if there is none, naming those that exist.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    path, colon, function = name.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise UserError(
            f"no protocol is called {name!r}",
            mend=f"there are {', '.join(PROTOCOLS)}, or give path/to/file.py:function",
        )
    module = _module(Path(path))
    call = getattr(module, function, None)
    if call is None:
        raise UserError(f"there is no function {function!r}", place=path)
    if not inspect.isfunction(call):
        raise UserError(f"{function!r} is no function", place=path)
    return protocol(call, path)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"mtrrzap_user_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError("no such file", place=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that annotations of the file's own classes resolve
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        line = _line(error, path)
        raise UserError(f"{type(error).__name__}: {error}", place=f"{path}:{line}") from error
    return module


def _line(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
