"""Where a generator stands, as a key: equal for what goes on alike, and never for what does not.

A generator goes on alike if its frames stand at the same instructions and hold the same values, as
Python runs the same code on them.
"""

import dataclasses
import gc
import sys
from collections.abc import Callable, Hashable, Iterator
from enum import Enum
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FrameType,
    FunctionType,
    GeneratorType,
    ModuleType,
)
from typing import Any

from mtrrzap.protocol.atomic import Number
from mtrrzap.protocol.operation import SharedObject
from mtrrzap.protocol.shared import SharedState
from mtrrzap.protocol.yielded import chain


class UnfreezableError(Exception):
    """Something cannot be compared by its contents."""


_BY_VALUE = (bool, int, str, bytes, range, Number)
_ITERATORS: tuple[type, ...] = (
    type(iter(())),
    type(iter([])),
    type(iter(range(0))),
    type(iter("")),
    type(iter({})),
    type(iter({}.values())),
    type(iter({}.items())),
    type(iter(set())),
    enumerate,
    zip,
    map,
    filter,
    reversed,
    type(reversed([])),
)


def freeze(value: Any) -> Hashable:
    """Return something hashable that is equal for equal values, and never for different ones.

    Raises:
        UnfreezableError: if ``value`` cannot be compared by its contents.
    """
    return Freezer().freeze(value)


def key(value: Any) -> Hashable:
    """Freeze a value; one that cannot be is equal to what it says that it is equal to."""
    try:
        return freeze(value)
    except UnfreezableError:
        return (type(value), value)


class Freezer:
    """Freezes values that may share what they hold: two lists alike are not one list twice."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, Any]] = {}  # the values too: an id is not used again

    def freeze(self, value: Any) -> Hashable:
        """Freeze one more value; see :func:`freeze`."""
        if value is None:
            return None
        if type(value) in _BY_VALUE:
            return (type(value), value)
        if type(value) is float:
            return (float, value.hex())
        if isinstance(value, CodeType | ModuleType | type | Enum):
            return _global(value)
        if isinstance(value, tuple):
            return (type(value), tuple(self.freeze(item) for item in value))
        if type(value) is frozenset:
            return (frozenset, tuple(self.freeze(item) for item in value))
        if id(value) in self._seen:
            return ("again", self._seen[id(value)][0])
        self._seen[id(value)] = (len(self._seen), value)
        return self._held(value)

    def _held(self, value: Any) -> Hashable:
        kind = type(value)
        if isinstance(value, SharedObject | SharedState):  # itself, unless somebody changes it
            return (value, self.freeze(vars(value)))
        if kind is BuiltinFunctionType:  # of a module, or a method of a list, for instance
            owner = value.__self__
            mine = None if isinstance(owner, ModuleType) else self.freeze(owner)
            return (kind, value.__name__, value if mine is None else mine)
        if kind is list:
            return (list, tuple(self.freeze(item) for item in value))
        if kind is dict:
            items = ((self.freeze(key), self.freeze(item)) for key, item in value.items())
            return (dict, tuple(items))
        if kind is set:  # in the order that a loop would see, which depends on its history
            return (set, value.__sizeof__(), tuple(self.freeze(item) for item in value))
        if kind is CellType:
            return (CellType, tuple(self.freeze(item) for item in _contents(value)))
        if kind is FunctionType:
            return self._function(value)
        if kind in _ITERATORS:
            return (kind, self.freeze(value.__reduce__()[1:]))
        if dataclasses.is_dataclass(value):
            return self._dataclass(value)
        raise UnfreezableError(kind.__name__)

    def _function(self, value: FunctionType) -> Hashable:
        held = (value.__closure__, value.__defaults__, value.__kwdefaults__, value.__dict__)
        scope = id(value.__globals__)
        if not any(held):
            return (FunctionType, value.__code__, scope)
        return (FunctionType, value.__code__, scope, *(self.freeze(each) for each in held))

    def _dataclass(self, value: Any) -> Hashable:
        names = [field.name for field in dataclasses.fields(value)]
        if not set(getattr(value, "__dict__", ())) <= set(names):
            raise UnfreezableError(type(value).__name__)
        return (type(value), tuple(self.freeze(getattr(value, name, None)) for name in names))


def _global(value: CodeType | ModuleType | type | Enum) -> Hashable:
    """Return what is there once for all; whoever runs protocols sees whether it changes."""
    named: Any = value
    found: Any
    if isinstance(value, CodeType):
        return value
    if isinstance(value, ModuleType):
        found = sys.modules.get(value.__name__)
    else:
        named = value if isinstance(value, type) else type(value)
        found = sys.modules.get(named.__module__)
        for name in named.__qualname__.split("."):
            found = getattr(found, name, None)
    if found is not named:
        raise UnfreezableError(type(value).__name__)
    return value


def _contents(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # empty
        return ()


def standing(steps: Any) -> Hashable:
    """Return a key for where a suspended generator stands, in all its frames.

    Raises:
        UnfreezableError: if something in a frame cannot be compared.
    """
    if not _STACK_IS_VISIBLE:
        raise UnfreezableError("frames")
    freezer = Freezer()
    return tuple(_frame(generator, freezer.freeze) for generator in chain(steps))


def _frame(generator: Any, freeze_: Callable[[Any], Hashable]) -> Hashable:
    frame: FrameType = generator.gi_frame
    names = frame.f_locals
    inner = generator.gi_yieldfrom
    apart = {id(frame), id(names)}
    if isinstance(inner, GeneratorType):  # has a frame of its own; any other iterator is held
        apart.add(id(inner))
    held = gc.get_referents(generator)  # locals and temporaries, for instance a loop's iterator
    values = (value for value in held if id(value) not in apart)
    return (frame.f_code, frame.f_lasti, tuple(names), tuple(freeze_(value) for value in values))


def _probe() -> bool:
    """Say whether this Python shows the temporaries of a suspended generator."""

    def twice() -> Iterator[int]:
        for _ in (1, 1):
            yield 1

    keys = set()
    steps = twice()
    for _ in steps:
        keys.add(_frame(steps, freeze))
    return len(keys) == 2


_STACK_IS_VISIBLE = _probe()
