"""The grid of a sweep, its cells, and which code makes their rows.

A grid is the product of axes; its cells are numbers from 0, and none exists before it is asked for.
A cell is a frozen value that contains all that its row depends on, beside its input and the code.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from mtrrzap import __version__
from mtrrzap.checker.scenario import Request

SIMULATE, CHECK = "simulate", "check"
PAGE_SIZES = {"4K": 1, "2M": 2, "1G": 3}
"""Page sizes of the host, and the level of such a leaf."""


@dataclass(frozen=True)
class Axis:
    """A name and the values that it takes; a ``range`` stays one, however long."""

    name: str
    values: Sequence[Any]


@dataclass(frozen=True)
class Grid:
    """All combinations. The last axis varies fastest; ``settings`` are the same for all cells."""

    kind: str
    axes: tuple[Axis, ...]
    settings: tuple[tuple[str, Any], ...] = ()

    def __len__(self) -> int:
        return math.prod(len(axis.values) for axis in self.axes)

    def at(self, number: int) -> dict[str, Any]:
        """Return the values of one cell, by axis."""
        found = {}
        for axis in reversed(self.axes):
            number, index = divmod(number, len(axis.values))
            found[axis.name] = axis.values[index]
        return {axis.name: found[axis.name] for axis in self.axes}

    def stride(self, name: str) -> int:
        """Return how many neighbouring cells share the values of an axis and of those before it."""
        names = [axis.name for axis in self.axes]
        return math.prod(len(axis.values) for axis in self.axes[names.index(name) + 1 :])


@dataclass(frozen=True)
class SimulateCell:
    """A guest under a policy. None: as it was recorded."""

    trace: str
    vcpus: int | None
    memory: int | None
    """Bytes."""
    page_size: str
    seed: int
    """0: the fitted cost model; another: each parameter times a factor drawn by it."""
    policy: str
    spread: float
    """The largest factor, and one over the smallest."""

    @property
    def source(self) -> str:
        """The input that it needs."""
        return self.trace

    def described(self) -> dict[str, Any]:
        """Return the columns that say which cell it is."""
        return {
            "trace": self.trace,
            "vcpus": self.vcpus,
            "memory_bytes": self.memory,
            "page_size": self.page_size,
            "seed": self.seed,
            "policy": self.policy,
        }


@dataclass(frozen=True)
class CheckCell:
    """So many executions of a protocol, each step chosen by a strategy."""

    protocol: str
    vcpus: int
    requests: int
    """Of each vCPU."""
    executions: int | None
    seconds: float | None
    """The budget: one of the two."""
    strategy: str
    seed: int
    properties: tuple[str, ...]
    ranges: tuple[Request, ...]
    """vCPU *i* asks for the *i*-th, in turn."""
    alloc_fails: bool
    memory_model: str
    depth: int
    """Of ``pct``."""

    @property
    def source(self) -> str:
        """The input that it needs."""
        return self.protocol

    def described(self) -> dict[str, Any]:
        """Return the columns that say which cell it is."""
        return {
            "protocol": self.protocol,
            "vcpus": self.vcpus,
            "requests": self.requests,
            "strategy": self.strategy,
            "seed": self.seed,
            "max_executions": self.executions,
            "max_seconds": self.seconds,
        }


Cell = SimulateCell | CheckCell


def cell_of(grid: Grid, number: int) -> Cell:
    """Return a cell of a grid by its number."""
    values: dict[str, Any] = {**grid.at(number), **dict(grid.settings)}
    return SimulateCell(**values) if grid.kind == SIMULATE else CheckCell(**values)


# ---- identity: rows made by different code never stand in one result ----------------------------
# A version number is not enough: the cost model and the checker change between two releases.


class Identity(NamedTuple):
    """A version, and the hash of the code and of the cost model."""

    version: str
    code: str

    def __str__(self) -> str:
        return f"mtrrzap {self.version}, code {self.code[:8]}"


@cache
def identity() -> Identity:
    """Return the identity of the code here: a hash of all code and data of the package.

    A list of the files that decide a row would have to be kept up to date by hand.
    """
    sha = hashlib.sha256()
    for path, item in _files(files("mtrrzap"), ""):
        sha.update(f"{path}\0".encode())
        sha.update(hashlib.sha256(item.read_bytes()).digest())
    return Identity(__version__, sha.hexdigest()[:16])


def _files(item: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    """Yield the package's code and data with their paths, but not what an editor leaves there."""
    if item.is_dir():
        for each in sorted(item.iterdir(), key=lambda child: child.name):
            yield from _files(each, f"{name}/{each.name}")
    elif name.endswith((".py", ".toml", ".csv", ".trace")):
        yield name, item


def ident(cell: Cell, sha256: str, made_by: Identity) -> str:
    """Return a name for a cell that no other cell, input or code shares."""
    what = {"cell": asdict(cell), "input": sha256, "version": made_by.version, "code": made_by.code}
    return digest(json.dumps(what, sort_keys=True))[:32]


def digest(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
