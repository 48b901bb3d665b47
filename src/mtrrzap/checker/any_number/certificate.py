"""Write a proof for every number of vCPUs as a file that can be verified without the search.

The file is JSON, compressed if its name ends in ``.gz``. ``checker.verifier`` reads it, and
shares no code with what wrote it. Its keys:

- ``format``: ``mtrrzap certificate 2``.
- ``protocol``: as the user named it. ``alloc-fails``: whether an allocation may fail.
- ``requests``: what a call may be for, each a list of ranges ``[start, end]`` of gfns.
- ``text``: the SHA-256 of the text of the protocol, and of what it imports.
- ``holds``: the properties that it proves. ``bound``: how many zaps a call sits through at most,
  for *starvation*; else null.
- ``objects``: the names of the shared objects.
- ``values``: each one a list with one value per object. Everywhere below, values are a number: the
  position in this list. The first is the start.
- ``states``: each one a list of local states that are treated as one. A local state is
  ``[request, results, phase]``: run the protocol for request number ``request`` and send it
  ``results``; phase 1 is in the middle of a zap. State 0 is a vCPU between two calls; its list is
  empty.
- ``ranks``: for *starvation*, a number for each state.
- ``nodes``: each ``[state, flags]``: flag 1, its zap counts; flag 2, it knows (see
  ``verifier.views``). Node *i* is state *i* without flags, as far as there are states.
- ``rows``: sets of nodes as hexadecimal numbers; bit *i* is node *i*.
- ``frames``: calls that are watched for one frame: ``[gfn, requests]``, with the numbers of the
  requests that it is watched for.
- ``views``: ``[values, watched, state, memory, graph]``. ``watched`` is a position in ``frames``,
  -1 if no vCPU is watched, -2 for one whose zaps are counted; ``state`` is that of this vCPU. A
  graph is a list of ``[node, row]``, where row is a position in ``rows``: the nodes that another
  vCPU may be at the same time.
- ``somebody``: ``[values, row]``: with these values, at least one vCPU is in a state of the row.

A value or a result is a number, a string, true, false or null as in JSON, a list for a tuple,
``{"range": [start, end]}`` for a range, or ``{"number": n}`` for a sequence's number.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.any_number.steps import IDLE
from mtrrzap.checker.any_number.views import Graph, bits
from mtrrzap.checker.any_number.watched import Watch
from mtrrzap.checker.memory_model import LocalState
from mtrrzap.checker.properties import lost_zap, ordering, safety, starvation
from mtrrzap.checker.properties.lost_zap import Atoms
from mtrrzap.checker.verifier import NEEDS
from mtrrzap.errors import UserError
from mtrrzap.protocol import Number, Range
from mtrrzap.protocol.atomic import position_of
from mtrrzap.protocol.digest import digest
from mtrrzap.protocol.meaning import synchronises

FORMAT = "mtrrzap certificate 2"

LARGEST = 1 << 27
"""Bytes of a certificate, unpacked."""

_OF_FRAMES = {lost_zap.NAME, ordering.NAME, starvation.NAME}


def certified(proof: Proof) -> tuple[str, ...]:
    """Return the properties that a certificate of this proof can show."""
    names = {name for name in proof.proved if proof.watched or name not in _OF_FRAMES}
    names |= {need for name in names for need in NEEDS[name]}
    return tuple(name for name in NEEDS if name in names)


def written(proof: Proof, protocol: str) -> dict[str, Any]:
    """Return the certificate as plain data; ``protocol`` is how the user named it.

    Raises:
        UserError: if nothing is proved, or a value cannot be written.
    """
    holds = certified(proof)
    if not holds:
        raise UserError(
            f"{protocol}: nothing is proved for every number of vCPUs",
            mend="a certificate needs a property that holds",
        )
    return _Writer(proof, holds).written(protocol)


def encoded(certificate: dict[str, Any], path: Path) -> bytes:
    """Return a certificate as a file of this name holds it: compressed if that ends in .gz."""
    data = (json.dumps(certificate, separators=(",", ":")) + "\n").encode()
    return gzip.compress(data, mtime=0) if path.suffix == ".gz" else data


def read(path: Path) -> dict[str, Any]:
    """Read a certificate file.

    Raises:
        UserError: if it cannot be read, or is not a certificate.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(LARGEST + 1)
        found = json.loads(data) if len(data) <= LARGEST else None
    except (gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError):
        found = None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", place=str(path)) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        mend = f"expected {FORMAT!r}; write it anew with this version"
        raise UserError("is not a certificate", place=str(path), mend=mend)
    return found


class _Writer:
    def __init__(self, proof: Proof, holds: tuple[str, ...]) -> None:
        self._proof, self._holds = proof, holds
        self._watched = proof.watched if lost_zap.NAME in holds else []
        self._rows: dict[int, int] = {}
        self._nodes = {(state, 0): state for state in range(len(proof.alike))}
        self._used = {node for graph in proof.anonymous.values() for node in graph} - {IDLE}
        objects = proof.steps.model.objects
        published = [at for at, each in enumerate(objects) if synchronises(each)]
        self._published = [*published, len(objects)]

    def written(self, protocol: str) -> dict[str, Any]:
        proof, holds = self._proof, self._holds
        views = [
            [values, -1, IDLE, 0, self._graph(graph)] for values, graph in proof.anonymous.items()
        ]
        for number, watch in enumerate(self._watched):
            views += self._watch(number, watch)
        waiting = proof.waiting if starvation.NAME in holds else None
        for (values, state, zaps), graph in waiting.views.graphs.items() if waiting else ():
            views.append([values, -2, state, zaps, self._graph(graph)])
        somebody = proof.somebody.clauses if proof.somebody else {}
        clauses = [[values, self._row(row)] for values, rows in somebody.items() for row in rows]
        return {
            "format": FORMAT,
            "protocol": protocol,
            "text": digest(proof.protocol.call, proof.protocol.vm),
            "alloc-fails": proof.alloc_fails,
            "requests": [[list(each) for each in kind] for kind in proof.kinds],
            "holds": list(holds),
            "bound": waiting.bound if waiting else None,
            "objects": [each.name for each in proof.steps.model.objects],
            "values": [self._values(each) for each in range(len(proof.steps.values))],
            "states": [self._state(each) for each in range(len(proof.alike))],
            "ranks": waiting.ranks if waiting else [],
            "nodes": [list(each) for each in self._nodes],
            "rows": [f"{row:x}" for row in self._rows],
            "frames": [[self._frame(each.atom), list(each.kinds)] for each in self._watched],
            "views": views,
            "somebody": clauses if safety.DEADLOCK in holds else [],
        }

    def _row(self, row: int) -> int:
        return self._rows.setdefault(row, len(self._rows))

    def _graph(self, graph: Graph) -> list[list[int]]:
        return [[node, self._row(row)] for node, row in sorted(graph.items())]

    def _values(self, number: int) -> list[Any]:
        return [plain(value) for value in self._proof.steps.shown(number).values()]

    def _state(self, number: int) -> list[Any]:
        if number not in self._used:
            return []
        members = self._proof.alike.members[number]
        return [self._member(self._proof.steps.local(each)) for each in members]

    def _member(self, local: LocalState) -> list[Any]:
        assert local.place is not None
        return [local.group, [plain(each) for each in local.place.results], local.phase]

    def _watch(self, number: int, watch: Watch) -> Iterator[list[Any]]:
        """Yield the views of a frame, with its nodes numbered as those of all frames."""
        nodes = [
            self._nodes.setdefault((local, counts | knows << 1), len(self._nodes))
            for local, counts, knows in watch.others
        ]
        moved: dict[int, int] = {}
        for (values, state, published, ended), graph in watch.views.graphs.items():
            if ended and ordering.NAME not in self._holds:
                continue
            for row in {*graph.values()} - moved.keys():
                moved[row] = sum(1 << nodes[node] for node in bits(row))
            memory = sum(1 << self._published[bit] for bit in bits(published))
            memory |= ended << self._published[-1]
            renamed = {nodes[node]: moved[row] for node, row in graph.items()}
            yield [values, number, state, memory, self._graph(renamed)]

    def _frame(self, atom: int) -> int:
        """Return the first frame of an atom."""
        atoms = Atoms(self._proof.steps.model.scenario)
        ends = sorted({end for kind in self._proof.kinds for each in kind for end in each})
        return next(low for low, high in pairwise(ends) if atoms.mask(((low, high),)) == 1 << atom)


def plain(value: Any) -> Any:
    """Return a value or a result as JSON has it.

    Raises:
        UserError: if it is of a kind that the format does not have.
    """
    if isinstance(value, Number):
        return {"number": position_of(value)}
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is Range:
        return {"range": [value.start, value.end]}
    if type(value) is tuple:
        return [plain(each) for each in value]
    raise UserError(
        f"a certificate cannot contain {value!r}",
        mend="let objects have values of numbers, strings, tuples and None",
    )
