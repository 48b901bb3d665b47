"""The table of protocols, and how a user's own is loaded."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.protocol.direct import direct
from mtrrzap.protocol.operation import Range, Steps
from mtrrzap.protocol.review import review
from mtrrzap.protocol.shared import SharedState
from mtrrzap.protocol.sketch import sketch
from mtrrzap.protocol.ticket import ticket
from mtrrzap.protocol.v3 import v3
from mtrrzap.protocol.v4 import v4
from mtrrzap.protocol.v4_patch10 import v4_patch10

Call = Callable[[Any, tuple[Range, ...]], Steps]
"""A protocol function: the VM and the ranges of one request."""


@dataclass(frozen=True)
class Protocol:
    """One protocol: its function, the VM it works on, and where it comes from."""

    name: str
    call: Call
    vm: type[SharedState]
    allocates: bool
    source: str


def protocol(call: Call, source: str, *, allocates: bool = True) -> Protocol:
    """Make a protocol of a function; its first parameter's annotation names the VM's class.

    Raises:
        UserError: if it is no generator function of ``(vm, ranges)`` with an annotated ``vm``.
    """
    name = getattr(call, "__name__", str(call))
    place = f"{inspect.getsourcefile(call)}:{call.__code__.co_firstlineno}"
    if not inspect.isgeneratorfunction(call):
        raise UserError(f"{name} is no generator function", place=place, mend="yield operations")
    parameters = list(inspect.signature(call).parameters)
    if len(parameters) != 2:
        raise UserError(
            f"{name} takes {len(parameters)} parameters", place=place, mend="take (vm, ranges)"
        )
    vm = typing.get_type_hints(call).get(parameters[0])
    if not (isinstance(vm, type) and issubclass(vm, SharedState)):
        raise UserError(
            f"{name} does not say which VM it works on",
            place=place,
            mend=f"annotate it: {parameters[0]}: Vm, a class of mtrrzap.protocol.Vm",
        )
    return Protocol(name=name, call=call, vm=vm, allocates=allocates, source=source)


PROTOCOLS: dict[str, Protocol] = {
    row.name: row
    for row in (
        protocol(direct, "KVM up to Linux 6.10", allocates=False),
        protocol(v3, "v3 of the series, patch 9 (June 2023)"),
        protocol(v4, "v4 of the series, patch 9 (14 July 2023)"),
        protocol(v4_patch10, "v4 of the series, patch 10 (14 July 2023)"),
        protocol(sketch, "discussion of v2 (24 May 2023)"),
        protocol(review, "review of v4's patch 9 (25 August 2023)", allocates=False),
        protocol(ticket, "this project", allocates=False),
    )
}
"""Every protocol that comes with the package, in the order of their history."""


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
    except Exception as error:
        line = _line(error, path)
        raise UserError(f"{type(error).__name__}: {error}", place=f"{path}:{line}") from error
    return module


def _line(error: Exception, path: Path) -> int:
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
