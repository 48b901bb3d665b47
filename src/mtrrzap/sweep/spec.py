"""Read a spec: TOML in, a grid out. An error is one line: file, key, problem and remedy."""

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mtrrzap.checker.check import SAFETY
from mtrrzap.checker.scenario import MEMORY_MODELS
from mtrrzap.checker.schedule import parse_range
from mtrrzap.errors import UserError
from mtrrzap.gfn import parse_size
from mtrrzap.guest.trace import MAX_VCPUS
from mtrrzap.kvm.policy import POLICIES, by_name
from mtrrzap.protocol import ALL_GFNS, Range
from mtrrzap.sweep.grid import CHECK, PAGE_SIZES, SIMULATE, Axis, Grid
from mtrrzap.toml import read_toml

MAX_CELLS = 100_000_000
STRATEGIES = ("pct", "random")
"""What finds most comes first."""
_SEED_LIMIT = (1 << 63) - 1

Read = Callable[[Any], Any]
"""Turns a value of the file into what it means. Raises ``WrongError``."""


class WrongError(Exception):
    """An invalid value: the problem and the remedy."""


@dataclass(frozen=True)
class Key:
    """One key of a spec: how it is read, and what docs/sweep.md says of it."""

    name: str
    read: Read
    default: Any
    says: str
    field: str = ""
    """The cell's field, where it has another name."""


@dataclass(frozen=True)
class Spec:
    """What a file asks for."""

    grid: Grid
    title: str = ""
    stop_at_first: bool = False
    """A violation ends all cells of its protocol, vCPUs and requests."""


@dataclass(frozen=True)
class Defaults:
    """What stands for an axis that a spec leaves out."""

    traces: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()


def read(text: str, place: str, defaults: Defaults) -> Spec:
    """Return what a spec's text asks for; ``place`` names its file in errors.

    Raises:
        UserError: naming the file, the key and the remedy.
    """
    told = read_toml(text, place)
    kind = told.get("kind")
    if not isinstance(kind, str) or kind not in KEYS:
        problem = "the kind is missing" if kind is None else f"unknown kind {kind!r}"
        raise UserError(problem, place=place, mend='write kind = "simulate" or kind = "check"')
    _known(told, ("kind", "title", "grid", kind), place, "")
    title = told.get("title", "")
    if not isinstance(title, str):
        raise UserError("not a text", place=f"{place}: title", mend='write title = "…"')
    axes, settings = KEYS[kind]
    given = _table(told, "grid", place)
    extra = _table(told, kind, place)
    _known(given, [key.name for key in axes], place, "grid.")
    _known(extra, [key.name for key in settings], place, f"{kind}.")
    if kind == CHECK:
        _one_budget(given, place)
    found = tuple(_axis(key, given, place, defaults) for key in axes)
    values = {
        key.field or key.name.replace("-", "_"): _value(key, extra, f"{place}: {kind}.{key.name}")
        for key in settings
    }
    stop = bool(values.pop("stop_at_first", False))
    grid = Grid(kind, found, tuple(values.items()))
    cells = math.prod(len(axis.values) for axis in found)
    if cells > MAX_CELLS:
        mend = f"ask for at most {MAX_CELLS:,}"
        raise UserError(f"{cells:,} cells", place=f"{place}: grid", mend=mend)
    return Spec(grid, title, stop)


def _table(told: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    found = told.get(name, {})
    if not isinstance(found, dict):
        raise UserError("not a table", place=f"{place}: {name}", mend=f"write [{name}]")
    return found


def _known(table: dict[str, Any], names: Sequence[str], place: str, before: str) -> None:
    for name in table:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            mend = f"write {close[0]}" if close else f"use one of {', '.join(names)}"
            raise UserError("unknown key", place=f"{place}: {before}{name}", mend=mend)


def _one_budget(given: dict[str, Any], place: str) -> None:
    if "executions" in given and "seconds" in given:
        raise UserError(
            "cannot be combined with grid.executions",
            place=f"{place}: grid.seconds",
            mend="give one of the two",
        )


def _axis(key: Key, given: dict[str, Any], place: str, defaults: Defaults) -> Axis:
    name = key.field or key.name
    where = f"{place}: grid.{key.name}"
    if key.name not in given:
        left_out = {"traces": defaults.traces, "protocols": defaults.protocols}
        values = left_out.get(key.name, key.default)
        if key.name == "executions" and "seconds" in given:
            values = (None,)
        return Axis(name, values)
    try:
        values = _values(given[key.name], key.read)
    except WrongError as error:
        raise UserError(error.args[0], place=where, mend=error.args[1]) from error
    if not values:
        raise UserError("empty", place=where, mend="give a value, or leave the key out")
    if not isinstance(values, range) and len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise UserError(f"{twice!r} is there twice", place=where, mend="give each value once")
    return Axis(name, values)


def _values(told: Any, reader: Read) -> Sequence[Any]:
    if isinstance(told, dict):
        return _series(told, reader)
    listed = told if isinstance(told, list) else [told]
    return tuple(reader(value) for value in listed)


def _series(told: dict[str, Any], reader: Read) -> Sequence[Any]:
    """``{ from = 8, to = 1024, times = 2 }`` or ``{ from = 0, to = 99 }``, the end included."""
    shape = "write { from = 0, to = 99 }, with step = or times = if need be"
    if not {"from", "to"} <= set(told) <= {"from", "to", "step", "times"} or len(told) > 3:
        raise WrongError("not a series", shape)
    if any(type(value) is not int for value in told.values()):
        raise WrongError("a series takes whole numbers only", shape)
    begin, end = told["from"], told["to"]
    reader(begin), reader(end)
    step, times = told.get("step", 1), told.get("times", 2)
    if step < 1 or times < 2 or begin > end or ("times" in told and begin < 1):
        raise WrongError("the series does not rise", shape)
    if "times" not in told:
        return range(begin, end + 1, step)
    found = [begin]
    while found[-1] * times <= end:
        found.append(found[-1] * times)
    return tuple(found)


def _value(key: Key, given: dict[str, Any], where: str) -> Any:
    if key.name not in given:
        return key.default
    try:
        return key.read(given[key.name])
    except WrongError as error:
        raise UserError(error.args[0], place=where, mend=error.args[1]) from error


# ---- values -----------------------------------------------------------------------------------


def _whole(low: int, high: int) -> Read:
    def reader(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise WrongError(
                f"invalid value {_shown(value)}", f"give whole numbers from {low:,} to {high:,}"
            )
        return value

    return reader


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise WrongError(f"invalid value {_shown(value)}", "give names, in quotes")
    return value


def _one_of(names: Sequence[str]) -> Read:
    def reader(value: Any) -> str:
        if value not in names or not isinstance(value, str):
            raise WrongError(f"invalid value {_shown(value)}", f"use one of {', '.join(names)}")
        return value

    return reader


def _policy(value: Any) -> str:
    try:
        return by_name(_text(value)).name
    except UserError as error:
        raise WrongError(f"unknown policy {value!r}", error.mend or "") from error


def _size(value: Any) -> int:
    try:
        size = parse_size(value if isinstance(value, str) else "")
    except UserError as error:
        raise WrongError(
            f"invalid value {_shown(value)}", 'write "512M", "64G" or "12T"'
        ) from error
    if not size:
        raise WrongError(f"invalid value {_shown(value)}", "give more than 0")
    return size


def _number(low: float, high: float) -> Read:
    def reader(value: Any) -> float:
        fits = type(value) in (int, float) and math.isfinite(value) and low <= value <= high
        if not fits:
            raise WrongError(
                f"invalid value {_shown(value)}", f"give numbers from {low:g} to {high:g}"
            )
        return float(value)

    return reader


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongError(f"invalid value {_shown(value)}", "write true or false")
    return value


def _properties(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    found = tuple(map(_one_of(tuple(SAFETY)), listed))
    if not found or len(set(found)) < len(found):
        raise WrongError("empty, or a property is there twice", f"use one of {', '.join(SAFETY)}")
    return found


def _ranges(value: Any) -> tuple[tuple[Range, ...], ...]:
    listed = value if isinstance(value, list) else [value]
    mend = 'write "0x0-0x100", several of one request with commas'
    try:
        found = tuple(tuple(parse_range(each) for each in _text(t).split(",")) for t in listed)
    except ValueError as error:
        raise WrongError(f"invalid value {_shown(str(error))}", mend) from error
    if not found or any(
        not 0 <= start < end <= ALL_GFNS.end for each in found for start, end in each
    ):
        raise WrongError("not a range of gfns", mend)
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


SIMULATE_AXES = (
    Key(
        "traces",
        _text,
        (),
        "recordings by name, or files beside the spec; all shipped ones",
        "trace",
    ),
    Key("vcpus", _whole(2, MAX_VCPUS), (None,), "rescaled to so many vCPUs; as recorded"),
    Key("memory", _size, (None,), 'rescaled to so much memory, as `"64G"`; as recorded'),
    Key(
        "page-size",
        _one_of(tuple(PAGE_SIZES)),
        ("4K",),
        "the host's pages: 4K, 2M, 1G",
        "page_size",
    ),
    Key(
        "seeds",
        _whole(0, _SEED_LIMIT),
        (0,),
        "0: the fitted cost model; any other: each parameter times a random factor of its own",
        "seed",
    ),
    Key("policies", _policy, tuple(p.name for p in POLICIES), "by name; all", "policy"),
)
CHECK_AXES = (
    Key("protocols", _text, (), "by name, or `file.py:function` beside the spec; all", "protocol"),
    Key("vcpus", _whole(1, 64), (2,), "how many; 2"),
    Key("requests", _whole(1, 1000), (1,), "of each vCPU; 1"),
    Key("executions", _whole(1, 10**9), (1000,), "budget of a cell; 1,000"),
    Key("seconds", _number(0.01, 86400), (None,), "budget of a cell in time, instead"),
    Key("strategies", _one_of(STRATEGIES), STRATEGIES, "pct, random; both", "strategy"),
    Key("seeds", _whole(0, _SEED_LIMIT), (0,), "of the strategies; 0", "seed"),
)
SIMULATE_SETTINGS = (
    Key("spread", _number(1, 10), 1.25, "the largest factor of a seed, and one over the smallest"),
)
CHECK_SETTINGS = (
    Key("properties", _properties, tuple(SAFETY), f"of {', '.join(SAFETY)}; all"),
    Key("ranges", _ranges, ((ALL_GFNS,),), "what vCPU 0, 1, … ask for, in turn; everything"),
    Key("alloc-fails", _flag, True, "whether allocations may fail; true"),
    Key("memory-model", _one_of(MEMORY_MODELS), "sc", "sc, tso; sc"),
    Key("depth", _whole(1, 20), 3, "pct: changes of priority, plus one; 3"),
    Key(
        "stop-at-first",
        _flag,
        False,
        "a violation ends the other cells of its protocol, vCPUs and requests; false",
    ),
)
KEYS: dict[str, tuple[tuple[Key, ...], tuple[Key, ...]]] = {
    SIMULATE: (SIMULATE_AXES, SIMULATE_SETTINGS),
    CHECK: (CHECK_AXES, CHECK_SETTINGS),
}
"""Each kind's axes, under ``[grid]``, and settings, under a table of the kind's name."""
