from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import broken_protocols, unsound_protocols
from mtrrzap.checker.check import Options, check
from mtrrzap.checker.forever import ForeverStepper
from mtrrzap.checker.ghost import NoGhost
from mtrrzap.checker.graph import Edge, Graph, build, components
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties import starvation
from mtrrzap.checker.result import Choice
from mtrrzap.checker.scenario import Scenario, scenario
from mtrrzap.checker.schedule import replay, written
from mtrrzap.checker.schedule_run import run_schedule
from mtrrzap.errors import UserError
from mtrrzap.protocol import ALL_GFNS, Number, Protocol, Sequence, Steps, Vm
from mtrrzap.protocol.load import load
from mtrrzap.protocol.numbers import counted_from
from mtrrzap.protocol.registry import protocol
from mtrrzap.report.counterexample import drawn


def endless(row: Protocol, vcpus: int) -> Scenario:
    return replace(scenario(row, vcpus, 1), forever=True)


def answer(row: Protocol, vcpus: int) -> starvation.StarvationResult:
    return starvation.check(Model(endless(row, vcpus), NoGhost()))


@pytest.mark.parametrize(
    ("name", "vcpus", "states", "stem", "loop"),
    [
        ("v4", 2, 267, 12, 17),
        ("v4", 3, 2543, 18, 17),
        ("sketch", 2, 148, 19, 15),
        ("sketch", 3, 1160, 25, 15),
        ("review", 2, 119, 18, 14),
        ("review", 3, 775, 23, 14),
    ],
)
def test_a_waiter_that_must_see_the_flag_clear_starves(
    name: str, vcpus: int, states: int, stem: int, loop: int
) -> None:
    found = answer(load(name), vcpus)
    assert found.states == states
    assert found.starved is not None
    assert (len(found.starved.stem), len(found.starved.loop)) == (stem, loop)


@pytest.mark.parametrize(("vcpus", "states"), [(2, 592), (3, 19708)])
def test_ticket_starves_nobody(vcpus: int, states: int) -> None:
    found = answer(load("ticket"), vcpus)
    assert (found.starved, found.states, found.cut) == (None, states, None)


def test_ticket_starves_nobody_whatever_is_asked_for() -> None:
    ranges = ((0x80, 0xA0), (0x200, 0x400)), ((0x200, 0x400),)
    world = scenario(load("ticket"), 2, 1, ranges=ranges)
    found = starvation.check(Model(replace(world, forever=True), NoGhost()))
    assert (found.starved, found.cut) == (None, None)


def test_direct_starves_nobody() -> None:
    assert answer(load("direct"), 3).starved is None


def test_an_exchange_that_is_tried_again_can_starve() -> None:
    assert answer(protocol(broken_protocols.mutex, "test"), 2).starved is not None


def test_the_queued_lock_starves_nobody() -> None:
    def locked(vm: broken_protocols.ListVm, ranges: tuple[tuple[int, int], ...]) -> Steps:
        yield vm.lock.lock()
        yield vm.mmu.zap(*ranges[0])
        yield vm.lock.unlock()

    assert answer(protocol(locked, "test"), 3).starved is None


def test_the_loop_is_fair_and_never_returns() -> None:
    model = Model(endless(load("v4"), 3), NoGhost())
    starved = starvation.check(model).starved
    assert starved is not None
    stepper = ForeverStepper(model)
    state = run_schedule(model, starved.stem, stepper=stepper).state
    start, idle = state, set[int]()
    for step in starved.loop:
        moves = list(stepper.moves(state))
        idle |= {0, 1, 2} - {move.vcpu for move in moves}
        state = stepper.canonical(next(m.after for m in moves if (m.vcpu, m.choice) == step))
    assert state == start
    moved = {step.vcpu for step in starved.loop}
    assert starved.vcpu not in moved
    assert moved | idle == {0, 1, 2}


def test_a_loop_that_leaves_out_who_could_go_on_is_no_starvation() -> None:
    """Without fairness vCPU 1 could zap for ever while vCPU 0 stands still."""
    model = Model(endless(load("direct"), 2), NoGhost())
    graph = build(ForeverStepper(model))
    found = components(len(graph.states), lambda at: (edge.to for edge in graph.edges[at]))
    assert any(len(each) > 1 for each in found)
    assert starvation.check(model).starved is None


def test_numbers_are_counted_from_the_lowest_in_use() -> None:
    results = (Number(3), True, None, Number(5), Number(7), 7)
    assert counted_from(results, 6) == (Number(-2), True, None, Number(-1), Number(1), 7)


def test_components_come_after_what_they_lead_to() -> None:
    edges = {0: [1], 1: [2, 3], 2: [1], 3: [4], 4: [4]}
    assert components(5, lambda at: edges[at]) == [[4], [3], [2, 1], [0]]


def test_vm_has_what_every_vm_has() -> None:
    assert [each.name for each in Vm.objects()] == ["mmu", "memory"]
    assert ALL_GFNS == (0, 1 << 52)


@pytest.mark.parametrize(
    ("name", "vcpus", "stem"),
    [("leak", 1, 5), ("leak", 2, 6), ("budget", 1, 21), ("budget", 2, 18)],
)
def test_a_dead_end_starves_everybody(name: str, vcpus: int, stem: int) -> None:
    starved = answer(protocol(getattr(unsound_protocols, name), "test"), vcpus).starved
    assert starved is not None
    assert (starved.vcpu, len(starved.stem), starved.loop) == (None, stem, ())


def test_a_dead_end_is_drawn_and_replays() -> None:
    name = f"{unsound_protocols.__file__}:leak"
    verdict = check(scenario(load(name), 1, 1), Options(properties=("starvation",)))[0]
    assert (verdict.verdict, verdict.detail) == ("VIOLATED", "5 steps, then nobody can make a step")
    shown = verdict.counterexample
    assert shown is not None
    assert "Deadlock: nobody can go on. vCPU 0 at lock.lock()." in drawn(shown, "leak")
    text = written(shown, name)
    assert replay(text, "leak", load).schedule == shown.schedule
    with pytest.raises(UserError, match="does not show starvation"):
        replay("\n".join(text.splitlines()[:-1]), "leak", load)


def test_a_loop_back_to_the_first_step_is_no_new_call() -> None:
    found = answer(protocol(unsound_protocols.retry, "test"), 2)
    assert found.starved is not None
    model = Model(endless(protocol(unsound_protocols.retry, "test"), 2), NoGhost())
    run = run_schedule(
        model, found.starved.stem + found.starved.loop, stepper=ForeverStepper(model)
    )
    loop = run.lines[len(found.starved.stem) :]
    assert "lock.unlock()" in [line.text for line in loop if line.vcpu == found.starved.vcpu]
    assert found.starved.vcpu not in {line.vcpu for line in loop if line.returns or line.calls}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("stores_a_number", "stored_number.store(0) takes a Sequence's number"),
        ("adds_to_a_number", "unsupported operand type(s) for +: 'Number' and 'int'"),
        ("compares_with_a_constant", "expected a Sequence's number, not 3"),
        ("tests_a_number", "a Sequence's number is neither true nor false"),
        ("looks_inside_a_number", "'Number' object has no attribute 'position'"),
        ("hands_over_a_constant", "expected a Sequence's number, not 0"),
    ],
)
def test_a_number_that_leaves_its_sequence_is_an_error(name: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        check(scenario(protocol(getattr(unsound_protocols, name), "test")))
    assert says in error.value.problem
    assert error.value.place is not None
    assert error.value.place.startswith(f"{unsound_protocols.__file__}:")


def test_numbers_are_compared_with_numbers() -> None:
    assert Number(1) != Number(2)
    assert Number(1) != None  # noqa: E711
    assert Number(1) < Number(2) >= Number(2) > Number(1) <= Number(1)
    with pytest.raises(UserError, match="invalid lag -1"):
        Sequence(0).reached(Number(0), lag=-1)


class Node(NamedTuple):
    """A made-up state of two vCPUs: who can make a step, to where; who then begins a new call."""

    edges: tuple[tuple[int, int], ...]
    calling: tuple[bool, bool]


NODES = st.lists(
    st.builds(
        Node,
        st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=3).map(
            tuple
        ),
        st.sampled_from([(False, False), (False, False), (True, False), (False, True)]),
    ),
    min_size=6,
    max_size=6,
)


def graph_of(nodes: list[Node]) -> tuple[Any, Graph]:
    """Number the nodes in breadth-first order; a state's local numbers are ``2 * node + vcpu``."""
    order, parents = [0], [(0, Choice(-1, -1))]
    for at, node in enumerate(order):
        for choice, (vcpu, to) in enumerate(nodes[node].edges):
            if to not in order:
                order.append(to)
                parents.append((at, Choice(vcpu, choice)))
    edges = [
        [Edge(vcpu, choice, order.index(to)) for choice, (vcpu, to) in enumerate(nodes[at].edges)]
        for at in order
    ]
    locals_ = [SimpleNamespace(calling=calls) for at in order for calls in nodes[at].calling]
    model = SimpleNamespace(vcpus=2, locals=SimpleNamespace(items=locals_))
    states = [(2 * at, 2 * at + 1) for at in range(len(order))]
    return model, Graph(states=states, edges=edges, parents=parents)


def by_trying(model: Any, graph: Graph, vcpu: int, most: int) -> int | None:
    """Walk every walk of up to ``most`` steps; return the length of the shortest lasso."""
    best: int | None = None
    idle = [{0, 1} - {edge.vcpu for edge in edges} for edges in graph.edges]
    for start in range(len(graph.states)):
        walks = [(start, set(idle[start]))]
        for steps in range(1, most + 1):
            walks = [
                (edge.to, met | {edge.vcpu} | idle[edge.to])
                for at, met in walks
                for edge in graph.edges[at]
                if edge.vcpu != vcpu or not model.locals.items[2 * edge.to + vcpu].calling
            ]
            if any(at == start and met == {0, 1} for at, met in walks):
                length = len(graph.path(start)) + steps
                best = length if best is None else min(best, length)
    return best


@settings(max_examples=200, deadline=None)
@given(NODES)
def test_no_lasso_is_shorter(nodes: list[Node]) -> None:
    model, graph = graph_of(nodes)
    found = starvation.shortest(model, graph, (0, 1))
    tried = [by_trying(model, graph, vcpu, 6) for vcpu in (0, 1)]
    shortest = min((length for length in tried if length is not None), default=None)
    if found is not None and len(found.loop) <= 6:
        assert found.length == shortest
    else:
        assert shortest is None or (found is not None and found.length <= shortest)
