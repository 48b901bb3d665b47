"""Write a proof for every number of vCPUs as a file that can be verified without the search.

The file is JSON, compressed if its name ends in ``.gz``. ``checker.verifier`` reads it, and
shares no code with what wrote it. Its keys:

- ``format``: ``mtrrzap certificate 1``.
- ``protocol``: as the user named it. ``alloc-fails``: whether an allocation may fail.
- ``requests``: what a call may be for, each a list of ranges ``[start, end]`` of gfns.
- ``holds``: the properties that it proves, of *lost zap*, *deadlock*, *unlocked access*,
  *capacity* and *ordering*. (*Starvation* is argued from these and a bound; it is not in here.)
- ``objects``: the names of the shared objects.
- ``values``: each one a list with one value per object. Everywhere below, values are a number: the
  position in this list. The first is the start.
- ``states``: each one a list of local states that are treated as one. A local state is
  ``[request, results, phase]``: run the protocol for request number ``request`` and send it
  ``results``; phase 1 is in the middle of a zap. State 0 is a vCPU between two calls; its list is
  empty.
- ``rows``: sets of nodes as hexadecimal numbers; bit *i* is node *i*.
- ``views``: for each values ``[values, graph]``. A graph is a list of ``[node, row]``, where row is
  a position in ``rows``: the nodes that another vCPU may be at the same time. Nodes are states.
- ``somebody``: ``[values, row]``: with these values, at least one vCPU is in a state of the row.
- ``watched``: for calls that are watched for one frame: ``frame``, a gfn; ``requests``, the numbers
  of the requests that it is watched for; ``others``, the nodes, each ``[state, counts, knows]``;
  ``views``, each ``[values, state, publishes, ended, graph]``, where ``state`` is that of the
  watched vCPU and ``publishes`` a list of objects' positions. ``watched`` says what they mean.

A value or a result is a number, a string, true, false or null as in JSON, a list for a tuple,
``{"range": [start, end]}`` for a range, or ``{"number": n}`` for a sequence's number.
"""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.any_number.steps import IDLE
from mtrrzap.checker.any_number.views import Graph, bits
from mtrrzap.checker.any_number.watched import Watch
from mtrrzap.checker.memory_model import LocalState
from mtrrzap.checker.properties import lost_zap, ordering, safety
from mtrrzap.checker.properties.lost_zap import Atoms
from mtrrzap.checker.properties.ordering import synchronises
from mtrrzap.errors import UserError
from mtrrzap.protocol import Number, Range

FORMAT = "mtrrzap certificate 1"


def certified(proof: Proof) -> tuple[str, ...]:
    """Return the properties that a certificate of this proof can show."""
    each = {
        lost_zap.NAME: bool(proof.watched),
        safety.DEADLOCK: proof.somebody is not None,
        safety.UNLOCKED: True,
        safety.CAPACITY: True,
        ordering.NAME: bool(proof.watched),
    }
    return tuple(name for name in proof.proved if each.get(name))


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
    return _Writer(proof).written(protocol, holds)


def encoded(certificate: dict[str, Any], path: Path) -> bytes:
    """Return a certificate as a file of this name holds it: compressed if that ends in .gz."""
    data = (json.dumps(certificate, separators=(",", ":")) + "\n").encode()
    return gzip.compress(data, mtime=0) if path.suffix == ".gz" else data


class _Writer:
    def __init__(self, proof: Proof) -> None:
        self._proof = proof
        self._rows: dict[int, int] = {}
        self._used = {node for graph in proof.anonymous.values() for node in graph} - {IDLE}
        objects = enumerate(proof.steps.model.objects)
        self._published = [at for at, each in objects if synchronises(each)]

    def written(self, protocol: str, holds: tuple[str, ...]) -> dict[str, Any]:
        proof = self._proof
        views = [[values, self._graph(graph)] for values, graph in proof.anonymous.items()]
        somebody = proof.somebody.clauses if proof.somebody else {}
        clauses = [[values, self._row(row)] for values, rows in somebody.items() for row in rows]
        watched = []
        if lost_zap.NAME in holds:
            watched = [self._watch(each, ordering.NAME in holds) for each in proof.watched]
        return {
            "format": FORMAT,
            "protocol": protocol,
            "alloc-fails": proof.alloc_fails,
            "requests": [[list(each) for each in kind] for kind in proof.kinds],
            "holds": list(holds),
            "objects": [each.name for each in proof.steps.model.objects],
            "values": [self._values(each) for each in range(len(proof.steps.values))],
            "states": [self._state(each) for each in range(len(proof.alike))],
            "rows": [f"{row:x}" for row in self._rows],
            "views": views,
            "somebody": clauses if safety.DEADLOCK in holds else [],
            "watched": watched,
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

    def _watch(self, watch: Watch, with_ordering: bool) -> dict[str, Any]:
        return {
            "frame": self._frame(watch.atom),
            "requests": list(watch.kinds),
            "others": [[each.local, each.counts, each.knows] for each in watch.others],
            "views": [
                [
                    control.values,
                    control.watched,
                    [self._published[bit] for bit in bits(control.published)],
                    control.ended,
                    self._graph(graph),
                ]
                for control, graph in watch.views.graphs.items()
                if with_ordering or not control.ended
            ],
        }

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
        return {"number": value.position}
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
