"""The verifier accepts what proofs write, and nothing with one view less or one bad view more."""

from __future__ import annotations

import ast
import contextlib
import copy
import gzip
import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.paths import ROOT
from mtrrzap.checker.any_number import certificate
from mtrrzap.checker.any_number.certificate import read
from mtrrzap.checker.any_number.prove import PROPERTIES, Proof
from mtrrzap.checker.scenario import Request
from mtrrzap.checker.verifier import RejectedError, verify
from mtrrzap.errors import UserError
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS, Range
from mtrrzap.protocol.digest import digest
from mtrrzap.protocol.load import load

FIXED: Request = (Range(0, 0x100),)
ALL: Request = (ALL_GFNS,)
SAFE = ("lost zap", "deadlock", "unlocked access", "capacity")
HOLDS = {
    "direct": PROPERTIES,
    "v3": SAFE[1:],
    "v4": SAFE[1:],
    "v4_patch10": SAFE[1:],
    "sketch": SAFE,
    "review": SAFE,
    "ticket": PROPERTIES,
}


@cache
def written(name: str, kinds: tuple[Request, ...] = (ALL,)) -> str:
    proof = Proof(PROTOCOLS[name], kinds)
    proof.run()
    return json.dumps(certificate.written(proof, name))


def loaded(name: str, kinds: tuple[Request, ...] = (ALL,)) -> Any:
    return json.loads(written(name, kinds))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_shipped_protocols(name: str) -> None:
    assert verify(loaded(name), PROTOCOLS[name]) == HOLDS[name]


@pytest.mark.parametrize("name", ["direct", "sketch", "review"])
def test_several_kinds_of_requests(name: str) -> None:
    kinds = (FIXED, ((0x80000, 0x100000),), (FIXED[0], (0x80000, 0x100000)))
    assert verify(loaded(name, kinds), PROTOCOLS[name]) == HOLDS[name]


def graphs(text: Any) -> list[Any]:
    return [each[-1] for each in text["views"]]


def edges(text: Any, graph: Any) -> list[tuple[int, int]]:
    rows = [int(each, 16) for each in text["rows"]]
    return [
        (node, other)
        for node, row in graph
        for other in range(rows[row].bit_length())
        if rows[row] >> other & 1 and node <= other
    ]


def flip(text: Any, graph: Any, one: int, other: int) -> None:
    """Add the view of two nodes to a graph, or take it away, in a row of its own."""
    for node, beside in {(one, other), (other, one)}:
        entry = next((each for each in graph if each[0] == node), None)
        if entry is None:
            entry = [node, len(text["rows"])]
            text["rows"].append("0")
            graph.append(entry)
        row = int(text["rows"][entry[1]], 16) ^ 1 << beside
        entry[1] = len(text["rows"])
        text["rows"].append(f"{row:x}")


@pytest.mark.parametrize(
    ("name", "tries"), [("direct", 10), ("sketch", 25), ("review", 25), ("ticket", 5)]
)
def test_without_any_one_view(name: str, tries: int) -> None:
    """Every view is there for a reason: each is tried where they are few, some where many."""

    @settings(max_examples=tries, deadline=None, database=None)
    @given(st.data())
    def one(data: st.DataObject) -> None:
        text = loaded(name)
        graph = data.draw(st.sampled_from(graphs(text)))
        flip(text, graph, *data.draw(st.sampled_from(edges(text, graph))))
        with pytest.raises(RejectedError):
            verify(text, PROTOCOLS[name])

    one()


def test_without_each_view_of_the_smallest() -> None:
    for at in range(len(graphs(loaded("review")))):
        for edge in edges(loaded("review"), graphs(loaded("review"))[at]):
            text = loaded("review")
            flip(text, graphs(text)[at], *edge)
            with pytest.raises(RejectedError):
                verify(text, PROTOCOLS["review"])


def bad_controls(name: str) -> list[list[int]]:
    """Return controls from which the watched call returns at once with its frame not zapped."""
    proof = Proof(PROTOCOLS[name], (ALL,))
    proof.run()
    effects = proof.steps.effects.items
    return [
        [values, 0, state, 0]
        for values, graph in proof.anonymous.items()
        for state in graph
        for step in proof.alike.steps(values, state)
        if state and effects[step.effect].returns and effects[step.effect].ended < 0
    ]


@pytest.mark.parametrize("name", ["sketch", "review", "ticket"])
def test_with_one_bad_view(name: str) -> None:
    found = bad_controls(name)
    assert found

    @settings(max_examples=5 if name == "ticket" else 20, deadline=None, database=None)
    @given(st.sampled_from(found))
    def one(control: list[int]) -> None:
        text = loaded(name)
        assert control not in [each[:4] for each in text["views"]]
        graph: list[Any] = []
        flip(text, graph, 0, 0)
        text["views"].append([*control, graph])
        with pytest.raises(RejectedError):
            verify(text, PROTOCOLS[name])

    one()


def test_another_protocol() -> None:
    for one, other in pairwise(PROTOCOLS):
        if loaded(one)["objects"] == loaded(other)["objects"] and (one, other) != ("v3", "v4"):
            text = loaded(one)
            with pytest.raises(RejectedError, match="another text of the protocol"):
                verify(text, PROTOCOLS[other])
            text["text"] = digest(PROTOCOLS[other].call, PROTOCOLS[other].vm)
            with pytest.raises(RejectedError):
                verify(text, PROTOCOLS[other])


def changed(name: str, key: str, value: Any) -> Any:
    return copy.deepcopy(loaded(name)) | {key: value}


@pytest.mark.parametrize(
    ("name", "key", "value", "says"),
    [
        ("v4", "holds", ["lost zap"], "no watched frame"),
        (
            "sketch",
            "holds",
            ["lost zap", "ordering"],
            "a node is missing|a view is missing|returns",
        ),
        ("review", "holds", ["work"], "cannot show work"),
        ("direct", "holds", ["starvation"], "cannot show starvation"),
        ("ticket", "bound", 1, "sits through more zaps"),
        ("ticket", "ranks", [0] * 99, "may go round"),
        ("sketch", "somebody", [], "nobody may be able to move"),
        ("sketch", "frames", [], "."),
        ("review", "text", "0" * 64, "another text of the protocol"),
        ("review", "nodes", [[1, 0]], "."),
        ("review", "rows", ["f" * 9999], "."),
        ("review", "rows", ["-f"], "a negative row"),
        ("review", "holds", [], "it shows nothing"),
        ("review", "requests", [], "invalid request"),
        ("review", "requests", [[]], "invalid request"),
        ("review", "requests", [[[4, 4]]], "invalid request"),
        ("review", "states", [[[0, [None], 0]]], "a vCPU in a call is not idle"),
        ("review", "values", 5, "malformed: TypeError"),
        ("review", "states", [[], [[0, [[]] * 9, 0]]], "."),
        ("sketch", "alloc-fails", True, None),
        ("ticket", "states", [[]], "no state"),
        ("review", "views", [], "a view is missing"),
        ("review", "requests", [[[0, 16]]], "."),
        ("review", "values", [], "values are missing"),
    ],
)
def test_what_is_wrong_is_said(name: str, key: str, value: Any, says: str | None) -> None:
    text = changed(name, key, value)
    if says is None:
        verify(text, PROTOCOLS[name])
    else:
        with pytest.raises(RejectedError, match=says):
            verify(text, PROTOCOLS[name])


def test_the_verifier_shares_no_code_with_the_search() -> None:
    for path in (ROOT / "src/mtrrzap/checker/verifier").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mtrrzap"):
                own = (
                    "mtrrzap.protocol",
                    "mtrrzap.errors",
                    "mtrrzap.reading",
                    "mtrrzap.checker.verifier",
                )
                assert str(node.module).startswith(own)


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"review.{suffix}"
    path.write_bytes(certificate.encoded(loaded("review"), path))
    assert verify(read(path), PROTOCOLS["review"]) == SAFE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1]",
        b"\x1f\x8bx",
        b"\x1f\x8b\x08",
        gzip.compress(b"{")[:-5],
        b"[" * 1_000_000,
        b'{"format": ' + b"9" * 5000 + b"}",
        gzip.compress(b"0" * (certificate.LARGEST + 9)),
        b'{"format": "mtrrzap certificate 1"}',
    ],
    ids=range(10),
)
def test_no_certificate(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x: is not a certificate; expected 'mtrrzap certificate 2"):
        read(path)


def test_a_file_without_end_or_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="/dev/zero: is not a certificate"):
        read(Path("/dev/zero"))
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="cannot be read"):
            read(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nonsense_anywhere_is_rejected_or_harmless(data: st.DataObject) -> None:
    """Of a certificate with one value replaced; what is left proves what it says, or nothing."""
    text = loaded("review")
    at: Any = text
    while True:
        keys = list(at) if isinstance(at, dict) else range(len(at))
        key = data.draw(st.sampled_from([*keys]))
        if not isinstance(at[key], list | dict) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    nonsense = [None, -1, 10**5000, 1.5, "x", [], {}, [[[]]], {"number": []}, True, "f" * 10**6]
    at[key] = data.draw(st.sampled_from(nonsense))
    with contextlib.suppress(RejectedError):
        assert {*verify(text, PROTOCOLS["review"])} <= {*HOLDS["review"]}


def test_it_is_bound_to_the_text_of_the_protocol(tmp_path: Path) -> None:
    """Its own file's, and that of what it imports; not to the file's name."""
    helper, own = tmp_path / "of_own.py", tmp_path / "own.py"
    helper.write_text("def ranges_of(ranges):\n    return ranges\n", encoding="utf-8")
    own.write_text(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from of_own import ranges_of\n"
        "from mtrrzap.protocol import Vm\n"
        "def own(vm: Vm, ranges):\n"
        "    for start, end in ranges_of(ranges):\n"
        "        yield vm.mmu.zap(start, end)\n",
        encoding="utf-8",
    )
    row = load(f"{own}:own")
    proof = Proof(row)
    proof.run()
    text = certificate.written(proof, "own")
    assert verify(text, row) == PROPERTIES
    own.rename(tmp_path / "other.py")
    assert verify(text, load(f"{tmp_path / 'other.py'}:own")) == PROPERTIES
    helper.write_text("def ranges_of(ranges):\n    return ranges[:1]\n", encoding="utf-8")
    with pytest.raises(RejectedError, match="another text of the protocol"):
        verify(text, row)


def test_it_is_bound_to_its_requests() -> None:
    text = loaded("review") | {"requests": [[[0, 16]], [[0, 1 << 52]]]}
    with pytest.raises(RejectedError):
        verify(text, PROTOCOLS["review"])
