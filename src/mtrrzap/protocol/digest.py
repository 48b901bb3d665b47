"""What binds a proof to a protocol's text."""

from __future__ import annotations

import hashlib
import inspect
import sys
from types import FunctionType, ModuleType
from typing import Any

from mtrrzap.protocol.shared import SharedState
from mtrrzap.protocol.source import ships


def digest(call: Any, vm: type[SharedState]) -> str:
    """Return the SHA-256 of all text that says what a protocol does.

    That is of the modules of its function and of its VM's objects, and of what these import, except
    from Python's library and installed packages. A function without a file stands for itself.
    """
    waiting = [call, vm, *map(type, vm.objects())]
    texts: dict[str, str] = {}
    while waiting:
        value = waiting.pop()
        name = _module_of(value)
        module = sys.modules.get(name)
        if name in texts or module is None or not _is_part(name, module):
            continue
        try:
            texts[name] = inspect.getsource(module)
        except (OSError, TypeError):
            texts[name] = value.__code__.co_code.hex() if isinstance(value, FunctionType) else ""
        waiting += vars(module).values()
    return hashlib.sha256("\0".join(sorted(texts.values())).encode()).hexdigest()


def _module_of(value: Any) -> str:
    if isinstance(value, ModuleType):
        return value.__name__
    found = getattr(value, "__module__", None)
    return found if isinstance(found, str) else type(value).__module__


def _is_part(name: str, module: ModuleType) -> bool:
    if ships(name):
        return name.startswith("mtrrzap.protocol.")
    return "-packages" not in (getattr(module, "__file__", None) or "")
