"""The verifier accepts what proofs write, and nothing with one view less or one bad view more."""

from __future__ import annotations

import ast
import copy
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
from mtrrzap.checker.any_number.prove import PROPERTIES, Proof
from mtrrzap.checker.properties import starvation
from mtrrzap.checker.scenario import Request
from mtrrzap.checker.verifier import RejectedError, read, verify
from mtrrzap.errors import UserError
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS, Range

FIXED: Request = (Range(0, 0x100),)
ALL: Request = (ALL_GFNS,)
SHOWN = tuple(name for name in PROPERTIES if name != starvation.NAME)
SAFE = ("lost zap", "deadlock", "unlocked access", "capacity")
HOLDS = {
    "direct": SHOWN,
    "v3": SAFE[1:],
    "v4": SAFE[1:],
    "v4_patch10": SAFE[1:],
    "sketch": SAFE,
    "review": SAFE,
    "ticket": SHOWN,
}


@cache
def written(name: str, kinds: tuple[Request, ...] = (ALL,)) -> str:
    proof = Proof(PROTOCOLS[name], kinds, properties=SHOWN)
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
    found = [each[-1] for each in text["views"]]
    return found + [each[-1] for watch in text["watched"] for each in watch["views"]]


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


def bad_controls(name: str) -> list[tuple[int, int, list[int], bool]]:
    """Return controls from which the watched call returns at once with its frame not zapped."""
    proof = Proof(PROTOCOLS[name], (ALL,), properties=SHOWN)
    proof.run()
    effects = proof.steps.effects.items
    return [
        (values, state, [], False)
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
    def one(control: tuple[int, int, list[int], bool]) -> None:
        text = loaded(name)
        watch = text["watched"][0]
        node = watch["others"].index([0, False, False])
        assert [*control] not in [each[:4] for each in watch["views"]]
        graph: list[Any] = []
        flip(text, graph, node, node)
        watch["views"].append([*control, graph])
        with pytest.raises(RejectedError):
            verify(text, PROTOCOLS[name])

    one()


def test_another_protocol() -> None:
    for one, other in pairwise(PROTOCOLS):
        if loaded(one)["objects"] == loaded(other)["objects"] and (one, other) != ("v3", "v4"):
            with pytest.raises(RejectedError):
                verify(loaded(one), PROTOCOLS[other])


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
        ("review", "holds", ["starvation"], "cannot show starvation"),
        ("sketch", "somebody", [], "nobody may be able to move"),
        ("sketch", "watched", [], "no watched frame"),
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


def test_no_certificate(tmp_path: Path) -> None:
    for content in (b"", b"{}", b"\x1f\x8bx", b"[1]"):
        path = tmp_path / "x"
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a certificate"):
            read(path)
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "missing")
