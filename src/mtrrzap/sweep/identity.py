"""Which code makes the rows: the project's version, and a hash of what decides a row.

A version number is not enough: between two releases the cost model and the checker change. Rows
made by different code never stand in one result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from mtrrzap import __version__

DECIDES = {
    "simulate": (
        *(
            "gfn.py",
            "x86",
            "guest/event.py",
            "guest/trace.py",
            "kvm",
            "protocol",
            "simulator",
            "study",
        ),
        *("simulator", "study", "data/cost-model.toml", "sweep/cell.py", "sweep/simulated.py"),
    ),
    "check": ("gfn.py", "protocol", "checker", "sweep/cell.py", "sweep/swarm.py"),
}
"""The files that a row of a kind depends on, beside its input."""


class Identity(NamedTuple):
    """A version, and the hash of the code and of the cost model."""

    version: str
    code: str

    def __str__(self) -> str:
        """Render for an error."""
        return f"mtrrzap {self.version}, code {self.code[:8]}"


@cache
def identity(kind: str) -> Identity:
    """Return the identity of the code here that makes rows of a kind."""
    sha = hashlib.sha256()
    root = files("mtrrzap")
    for name in DECIDES[kind]:
        for path, item in _files(root.joinpath(name), name):
            sha.update(f"{path}\0".encode())
            sha.update(hashlib.sha256(item.read_bytes()).digest())
    return Identity(__version__, sha.hexdigest()[:16])


def _files(item: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    if item.is_file():
        if name.endswith((".py", ".toml")):
            yield name, item
        return
    for each in sorted(item.iterdir(), key=lambda child: child.name):
        yield from _files(each, f"{name}/{each.name}")
