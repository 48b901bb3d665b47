"""What one cell is: a frozen value that says all that its row depends on, beside its input."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from mtrrzap.checker.scenario import Request
from mtrrzap.sweep.grid import Grid
from mtrrzap.sweep.identity import Identity

SIMULATE, CHECK = "simulate", "check"


@dataclass(frozen=True)
class Simulated:
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


@dataclass(frozen=True)
class Checked:
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


Cell = Simulated | Checked


def cell_of(grid: Grid, number: int) -> Cell:
    """Return a cell of a grid by its number."""
    values: dict[str, Any] = {**grid.at(number), **dict(grid.settings)}
    return Simulated(**values) if grid.kind == SIMULATE else Checked(**values)


def ident(cell: Cell, sha256: str, made_by: Identity) -> str:
    """Return a name for a cell that no other cell, input or code shares."""
    what = {"cell": asdict(cell), "input": sha256, "version": made_by.version, "code": made_by.code}
    return digest(json.dumps(what, sort_keys=True))[:32]


def digest(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
