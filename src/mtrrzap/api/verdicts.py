"""``check``: every interleaving of a protocol, and the shortest counterexample."""

from __future__ import annotations

import html
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from mtrrzap.api.printed import Printed, Sheet
from mtrrzap.checker import check as core
from mtrrzap.checker.asked import Asked
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import Request
from mtrrzap.checker.schedule import written
from mtrrzap.checker.strategies import Pct, RandomWalk, Strategy
from mtrrzap.errors import UserError, expect
from mtrrzap.protocol import ALL_GFNS, Protocol, Range
from mtrrzap.protocol import protocol as made
from mtrrzap.protocol.load import blamed, load
from mtrrzap.protocol.operation import Steps


class Search(TypedDict, total=False):
    """Keyword arguments of ``check`` that say how to search. All are optional."""

    strategy: Literal["bfs", "random", "pct"]
    """``bfs`` (default) sees every interleaving; ``random`` and ``pct`` sample ``runs`` of them."""
    runs: int
    """Executions of a sample; default 1000."""
    seed: int
    """Seed of a sample; default 0."""
    max_states: int | None
    """Stop each search after so many states. The default None means never."""
    max_seconds: float | None
    """Stop each search after so many seconds. The default None means never."""
    max_gb: float
    """Stop a search whose states take so many gigabytes (10^9 bytes); default 8."""
    first: bool
    """Stop as soon as every property asked for is violated; default False."""
    symmetry: bool
    """Merge states that differ only in which equal vCPU is which; default True."""
    engine: Literal["auto", "python", "numba"]
    """``auto`` (default) takes numba for large searches if it is installed."""


def check(
    protocol: str | Protocol | Callable[..., Steps],
    *,
    vcpus: int | None = 2,
    requests: int = 1,
    ranges: Sequence[Sequence[tuple[int, int]]] | None = None,
    alloc_fails: bool = True,
    memory_model: Literal["sc", "tso"] = "sc",
    properties: str | Iterable[str] | None = None,
    **search: Unpack[Search],
) -> Verdicts:
    """Explore every interleaving of the vCPUs, and say which properties hold.

    Ctrl-C stops the search; what was not decided by then has the verdict *unknown*.

    Args:
        protocol: A shipped protocol's name (``direct``, ``v3``, ``v4``, ``v4_patch10``, ``sketch``,
            ``review``, ``ticket``), ``"path/to/file.py:function"``, or a generator function of
            ``(vm, ranges)`` of your own (see ``mtrrzap.protocol``).
        vcpus: How many vCPUs, from 1 to 12. None: a proof for every number of vCPUs that ask for
            ever; a property that it cannot prove is looked for with few vCPUs, and is *unknown* if
            no schedule is found. ``work`` is left out.
        requests: How many requests each vCPU makes, one after the other. Not used by a proof.
        ranges: What a request asks for, as half-open ranges of gfns: vCPU *i* asks for
            ``ranges[i % len(ranges)]``. With ``vcpus=None`` each call of each vCPU may be for any
            of them. None: every vCPU asks for everything.
        alloc_fails: Whether an allocation may fail, where the protocol makes any.
        memory_model: ``sc`` (sequentially consistent) or ``tso`` (with x86's store buffers).
        properties: One or several of ``lost zap``, ``deadlock``, ``unlocked access``, ``capacity``,
            ``ordering``, ``starvation``, ``work``; None: all.
        search: How to search and when to stop; see ``Search``.

    Returns:
        A mapping from each property's name to its verdict.

    Raises:
        UserError: if the protocol, a property or a size is invalid, if the protocol's own code
            raises (the error names the file and line), or if ``engine="numba"`` and numba is
            missing.

    Example:
        >>> import mtrrzap
        >>> verdicts = mtrrzap.check("v4", vcpus=2, properties=["lost zap", "deadlock"])
        >>> {name: verdict.holds for name, verdict in verdicts.items()}
        {'lost zap': False, 'deadlock': True}
        >>> drawn = str(verdicts["lost zap"].counterexample)
        >>> print(drawn.splitlines()[0])
        v4: lost zap, 2 vCPUs, 1 request each, allocation may fail, 20 steps

        >>> mtrrzap.check("ticket", vcpus=None, properties="lost zap").holds
        True
    """
    options = options_of(properties, search)
    name, known, file = _protocol(protocol)
    asked = Asked(
        vcpus=vcpus,
        requests=requests,
        kinds=((ALL_GFNS,),) if ranges is None else _ranges(ranges),
        alloc_fails=alloc_fails,
        memory=memory_model,
    )
    task = asked.task(known, options)
    with blamed(file):
        return Verdicts(name, task.run(task.options))


def _protocol(given: str | Protocol | Callable[..., Steps]) -> tuple[str, Protocol, Path]:
    """Return a protocol, the name it goes by, and the file to blame for its errors."""
    if isinstance(given, Protocol):
        return given.name, given, Path(given.call.__code__.co_filename)
    if isinstance(given, str):
        return given, load(given), Path(given.rpartition(":")[0])
    if not inspect.isfunction(given):
        raise UserError(
            f"{type(given).__name__} is not a protocol",
            mend="give a name, file.py:function or a generator function",
        )
    file = Path(given.__code__.co_filename)
    return given.__name__, made(given, str(file)), file


def _ranges(ranges: Sequence[Sequence[tuple[int, int]]]) -> tuple[Request, ...]:
    try:
        found = tuple(
            tuple(Range(operator.index(start), operator.index(end)) for start, end in each)
            for each in ranges
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"invalid ranges {ranges!r}",
            mend="give a list of requests, each a list of (start, end) in gfns",
        ) from error
    if not found or not all(found):
        raise UserError("a request without ranges", mend="give each at least one (start, end)")
    return found


_USUAL: dict[str, Any] = {
    "strategy": "bfs",
    "runs": 1000,
    "seed": 0,
    "engine": "auto",
    "max_states": None,
    "max_seconds": None,
    "max_gb": 8.0,
    "first": False,
    "symmetry": True,
}
_WORDS = {"strategy": ("bfs", "random", "pct"), "engine": ("auto", "python", "numba")}
_NUMBERS: dict[str, tuple[Any, int]] = {
    "runs": (int, 1),
    "seed": (int, 0),
    "max_states": (int | None, 1),
    "max_seconds": (int | float | None, 0),
    "max_gb": (int | float, 0),
}
"""The types and the least value of each."""


def options_of(properties: str | Iterable[str] | None, search: Search) -> core.Options:
    """Return the checker's options; ``properties`` None: all.

    Raises:
        UserError: if a value is invalid; its place is the keyword.
        TypeError: if a keyword is unknown.
    """
    if unknown := search.keys() - _USUAL.keys():
        raise TypeError(f"check() got an unexpected keyword argument {min(unknown)!r}")
    given = _USUAL | dict(search)
    for name, words in _WORDS.items():
        if given[name] not in words:
            mend = f"use {', '.join(words)}"
            raise UserError(f"unknown {name} {given[name]!r}", place=name, mend=mend)
    for name, (types, least) in _NUMBERS.items():
        mend = f"give a number, {least} or more"
        expect(given[name], types, name, mend)
        if given[name] is not None and not least <= given[name] < math.inf:
            raise UserError(f"invalid number {given[name]}", place=name, mend=mend)
    kinds: dict[str, Callable[[int], Strategy]] = {"random": RandomWalk, "pct": Pct}
    kind = kinds.get(given["strategy"])
    asked = (properties,) if isinstance(properties, str) else properties
    mend = f"use some of {', '.join(core.PROPERTIES)}"
    expect(asked, Iterable | None, "properties", mend)
    names = core.PROPERTIES if asked is None else tuple(asked)
    if not names:
        raise UserError("none is given", place="properties", mend=mend)
    return core.Options(
        properties=names,
        symmetry=given["symmetry"],
        engine=given["engine"],
        limits=Limits(given["max_states"], given["max_seconds"], int(given["max_gb"] * 1e9)),
        strategy=kind and kind(given["seed"]),
        runs=given["runs"],
        first=given["first"],
    )


@dataclass(frozen=True, slots=True, repr=False)
class Counterexample:
    """A shortest schedule that shows a violation. ``str`` draws it, one column a vCPU."""

    protocol: str
    """The name the protocol goes by."""
    found: core.Counterexample

    @property
    def steps(self) -> int:
        """Operations on shared objects, without those of a loop that then repeats for ever."""
        return len(self.found.schedule)

    @property
    def schedule(self) -> str:
        """The text of a schedule file, which ``mtrrzap check --replay`` runs again."""
        known = self.found.scenario.protocol
        own = known.name == self.protocol and known.source.endswith(".py")
        return written(self.found, f"{known.source}:{known.name}" if own else self.protocol)

    def __str__(self) -> str:
        from mtrrzap.report.counterexample import drawn

        return drawn(self.found, self.protocol).rstrip("\n")

    def __repr__(self) -> str:
        return f"<Counterexample of {self.protocol}, {self.found.prop}: {self.steps} steps>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


@dataclass(frozen=True, slots=True, repr=False)
class PropertyVerdict:
    """What the search says about one property."""

    protocol: str
    """The name the protocol goes by."""
    found: core.Verdict
    """The details, as ``transitions``, ``depth``, ``seconds``, ``bytes`` and ``engine``."""

    @property
    def name(self) -> str:
        """The property."""
        return self.found.prop

    @property
    def holds(self) -> bool | None:
        """Whether the property holds in every interleaving.

        False means that there is a counterexample. None means that it was not decided, because a
        limit or Ctrl-C cut the search, or because the property (``work``) is a measurement.
        """
        return {core.HOLDS: True, core.VIOLATED: False}.get(self.verdict)

    @property
    def verdict(self) -> str:
        """``holds``, ``VIOLATED``, ``unknown`` (the search was cut) or ``measured``."""
        return self.found.verdict

    @property
    def detail(self) -> str:
        """Why it is so, in words; may be empty."""
        return self.found.detail

    @property
    def states(self) -> int:
        """States that the search saw."""
        return self.found.states

    @property
    def counterexample(self) -> Counterexample | None:
        """A shortest schedule that violates the property, or None."""
        shown = self.found.counterexample
        return None if shown is None else Counterexample(self.protocol, shown)

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.protocol}: {self.name}: {self.verdict}{detail}"

    def __repr__(self) -> str:
        return f"<PropertyVerdict {self}>"


class UnknownPropertyError(UserError, KeyError):
    """No verdict has this name; ``in`` and ``get`` work as with any mapping."""


class Verdicts(Printed, Mapping[str, PropertyVerdict]):
    """Verdicts of one protocol by property. ``print`` shows the table, a notebook too."""

    def __init__(self, protocol: str, found: Iterable[core.Verdict]) -> None:
        self.protocol = protocol
        """The name the protocol goes by."""
        self._found = {each.prop: PropertyVerdict(protocol, each) for each in found}

    @property
    def holds(self) -> bool | None:
        """False if any property is violated; None if any is unknown; else True."""
        verdicts = {each.verdict for each in self.values()}
        if core.VIOLATED in verdicts:
            return False
        return None if core.UNKNOWN in verdicts else True

    def __getitem__(self, name: str) -> PropertyVerdict:
        if name not in self._found:
            raise UnknownPropertyError(
                f"no verdict on {name!r}", mend=f"use one of {', '.join(self)}"
            )
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        said = ", ".join(f"{name}: {each.verdict}" for name, each in self.items())
        return f"<Verdicts on {self.protocol}: {said}>"

    def to_dict(self) -> list[dict[str, Any]]:
        """Return one dict a property: what ``mtrrzap check --json`` prints."""
        from mtrrzap.report.verdicts import as_json

        return as_json(self._results())

    def __str__(self) -> str:
        from mtrrzap.report.verdicts import table

        return table(self._results()).rstrip("\n")

    def _results(self) -> list[tuple[str, list[core.Verdict]]]:
        return [(self.protocol, [each.found for each in self.values()])]

    def _sheets(self) -> Iterable[Sheet]:
        columns = ("property", "verdict", "states", "detail", "configuration")
        rows = [
            (v.name, v.verdict, v.states, v.detail, v.found.configuration) for v in self.values()
        ]
        yield Sheet(columns, rows, self.protocol, frozenset(("states",)))
