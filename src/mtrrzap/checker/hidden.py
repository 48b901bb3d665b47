"""Shared state outside the VM: globals, closures and class attributes that change.

All vCPUs run in one Python process, and every replay runs there again: what a protocol writes
outside its VM, all of them see, without an operation. So everything that its functions can name is
compared before they run and after each step that is learned. What they reach in other ways (a
module that comes with Python, a C object's insides, files) is not noticed.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, GeneratorType, ModuleType
from typing import Any

from mtrrzap.protocol import Protocol, SharedObject, SharedState
from mtrrzap.protocol.source import ships
from mtrrzap.protocol.standing import UnfreezableError, standing

_DEPTH = 20
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_SEALED = (FunctionType, BuiltinFunctionType, CodeType, ModuleType, type)
_SELDOM = object()
"""Stands for a name that is not there."""

Names = dict[Any, Any]


class Hidden:
    """What a protocol's functions can name, as it was before they ran."""

    def __init__(self, protocol: Protocol) -> None:
        self._watched: list[tuple[str, Any, str]] = []
        self._known: set[int] = set()
        self._class(protocol.vm)
        self._function(protocol.call)
        self._before = self._pictures()

    def changed(self) -> str | None:
        """Return the name of something that is not as it was, or None."""
        now = self._pictures()
        for (name, _, _), before, after in zip(self._watched, self._before, now, strict=True):
            if before != after:
                return name
        return None

    def _pictures(self) -> list[Hashable]:
        return [_picture(_get(owner, key), {}, 0) for _, owner, key in self._watched]

    def _is_new(self, value: Any) -> bool:
        new = id(value) not in self._known
        self._known.add(id(value))
        return new

    def _watch(self, name: str, owner: Any, key: str) -> None:
        self._watched.append((name, owner, key))
        value = _get(owner, key)
        if isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        else:
            self._class(type(value))

    def _function(self, call: Any) -> None:
        call = getattr(call, "__func__", call)
        if not isinstance(call, FunctionType) or not self._is_new(call) or ships(call.__module__):
            return
        name = call.__name__
        for what in ("__defaults__", "__kwdefaults__", "__dict__", "__code__"):
            self._watch(f"{name}.{what}", call, what)
        for free, cell in zip(call.__code__.co_freevars, call.__closure__ or (), strict=True):
            self._watch(f"{free} of {name}", cell, "cell_contents")
        for each in _names(call.__code__):
            self._global(call.__globals__, each, call.__code__)

    def _global(self, names: Names, name: str, code: CodeType) -> None:
        value = names.get(name, _SELDOM)
        if value is _SELDOM and name in vars(sys.modules["builtins"]):
            return
        self._watch(name, names, name)
        if isinstance(value, ModuleType) and not ships(value.__name__):
            for each in _names(code):
                if each in vars(value):
                    self._watch(f"{name}.{each}", vars(value), each)

    def _class(self, kind: type) -> None:
        if not self._is_new(kind) or ships(kind.__module__):
            return
        for base in kind.__bases__:
            self._class(base)
        for name in vars(kind):
            if not name.startswith("__") or name == "__init__":
                self._watch(f"{kind.__qualname__}.{name}", kind, name)


def _get(owner: Any, key: str) -> Any:
    if isinstance(owner, dict):
        return owner.get(key, _SELDOM)
    try:
        return vars(owner).get(key, _SELDOM) if isinstance(owner, type) else getattr(owner, key)
    except (AttributeError, ValueError):  # an empty cell
        return _SELDOM


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _picture(value: Any, seen: dict[int, int], depth: int) -> Hashable:
    if type(value) in _PLAIN:
        return (type(value), value)
    if isinstance(value, _SEALED):
        return ("is", id(value))
    if id(value) in seen or depth > _DEPTH:
        return ("again", seen.get(id(value), -1))
    seen[id(value)] = len(seen)
    if isinstance(value, SharedObject | SharedState | Enum):
        return ("is", id(value), _picture(vars(value), seen, depth + 1))
    items = _items(value)
    if items is None:
        return ("is", id(value))
    return (type(value), tuple(_picture(item, seen, depth + 1) for item in items))


def _items(value: Any) -> Any:
    """Return a value's contents, or None if it does not show them."""
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, GeneratorType):
        try:
            return [hash(standing(value))]
        except (UnfreezableError, AttributeError):
            return None
    if type(value).__module__ in ("random", "_random"):
        return [value.getstate()]
    try:
        return list(value.__reduce_ex__(2)[1:])
    except Exception:
        return [vars(value)] if hasattr(value, "__dict__") else None
