"""The rows of bits against the definition: pairs in a set, one rule after the other."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrrzap.checker.any_number.prove import Proof, Views, check
from mtrrzap.checker.any_number.views import bits
from mtrrzap.checker.check import Options, exit_status
from mtrrzap.protocol import PROTOCOLS

NODES, CONTROLS = 4, 3
Pair = tuple[int, int]
View = tuple[int, Pair]
Moves = dict[tuple[int, int], list[tuple[int, int, int]]]
Own = dict[int, list[tuple[int, int]]]

moves_of = st.dictionaries(
    st.tuples(st.integers(0, CONTROLS - 1), st.integers(0, NODES - 1)),
    st.lists(
        st.tuples(
            st.integers(0, CONTROLS - 1), st.integers(0, NODES - 1), st.sampled_from([0, 0, 1])
        ),
        max_size=2,
    ),
    max_size=8,
)
own_of = st.dictionaries(
    st.integers(0, CONTROLS - 1),
    st.lists(st.tuples(st.integers(0, CONTROLS - 1), st.sampled_from([0, 0, 1])), max_size=2),
    max_size=3,
)
starts = st.lists(
    st.tuples(
        st.integers(0, CONTROLS - 1),
        st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)),
    ),
    min_size=1,
    max_size=3,
)


def shifted(node: int, by: int) -> int:
    return max(0, node - by)


def naive(moves: Moves, own: Own, first: list[View]) -> set[View]:
    """Close a set of views by the three rules, over and over until nothing is new."""
    found = {(control, tuple(sorted(pair))) for control, pair in first}
    while True:
        new: set[View] = set()
        for control, pair in found:
            for after, by in own.get(control, []):
                new.add((after, tuple(sorted(shifted(node, by) for node in pair))))
        for control in range(CONTROLS):
            for three in combinations_with_replacement(range(NODES), 3):
                pairs = [three[:i] + three[i + 1 :] for i in range(3)]
                if all((control, pair) in found for pair in pairs):
                    for i in range(3):
                        new |= moved(moves, control, three[i], three[:i] + three[i + 1 :])
        for control, (a, b) in found:
            new |= moved(moves, control, a, (b,)) | moved(moves, control, b, (a,))
        if new <= found:
            return found
        found |= new


def moved(moves: Moves, control: int, mover: int, rest: tuple[int, ...]) -> set[View]:
    """Return the views after a move, of every two of those who are left and the one who moved."""
    found = set()
    for after, node, by in moves.get((control, mover), []):
        beside = [shifted(each, by) for each in rest]
        pairs = [(node, each) for each in beside]
        if len(beside) == 2:
            pairs.append((beside[0], beside[1]))
        found |= {(after, tuple(sorted(pair))) for pair in pairs}
    return found


@settings(max_examples=300, deadline=None)
@given(moves_of, own_of, starts)
def test_the_rows_are_the_pairs(moves: Moves, own: Own, first: list[View]) -> None:
    views: Views[int] = Views(
        lambda control, node: moves.get((control, node), []),
        lambda control: own.get(control, []),
        shifted,
    )
    for control, (a, b) in first:
        views.add(control, a, 1 << b)
        views.add(control, b, 1 << a)
    views.close()
    found = {
        (control, (node, other))
        for control, graph in views.graphs.items()
        for node, row in graph.items()
        for other in bits(row)
        if node <= other
    }
    assert found == naive(moves, own, first)
    assert views.count() == len(found)
    for graph in views.graphs.values():
        assert all(graph[other] >> node & 1 for node, row in graph.items() for other in bits(row))


def test_ctrl_c_gives_unknown_and_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Views, "_expand", interrupted)
    found = check(Proof(PROTOCOLS["review"]), Options())
    assert {(each.verdict, each.detail) for each in found} == {("unknown", "interrupted")}
    assert exit_status(found) == 130


@pytest.mark.parametrize("name", ["sketch", "review", "ticket"])
def test_alike_states_do_the_same(name: str) -> None:
    """Of every set with several members: same next operation, and steps to the same sets."""
    proof = Proof(PROTOCOLS[name], (((0, 0x100),), ((0x100, 0x200),)), properties=("capacity",))
    proof.run()
    steps, alike = proof.steps, proof.alike
    assert len(alike) < len(steps.locals)
    for values, graph in proof.anonymous.items():
        for number in graph:
            does = {
                tuple(step._replace(local=alike.of(step.local)) for step in steps.steps(values, m))
                for m in alike.members[number]
            }
            assert len(does) == 1, number
