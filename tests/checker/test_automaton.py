import gc
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import broken_protocols, hidden_state, unsound_protocols
from mtrrzap.checker import solo
from mtrrzap.checker.automaton import LONG, Automaton, Place
from mtrrzap.checker.check import SAFETY, check
from mtrrzap.checker.scenario import scenario
from mtrrzap.errors import UserError
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS, Range, Steps, Vm
from mtrrzap.protocol.load import load
from mtrrzap.protocol.registry import protocol
from mtrrzap.protocol.standing import Freezer, UnfreezableError, freeze

SOURCE = Path(broken_protocols.__file__)


def line_of(marker: str) -> int:
    lines = SOURCE.read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.endswith(f"# {marker}"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("counts", "operations of a call alone in the VM, at flag.store"),
        ("hangs", "stopped after 100,000 lines without an operation"),
        ("rubbish", "the protocol yielded 42, which is not an operation"),
        ("foreign", "is an operation of an object outside this VM"),
        ("raises", "ZeroDivisionError: oops"),
        ("sets_vm", "must not set vm.flag itself"),
        ("sets_object", "must not set flag.start itself"),
    ],
)
def test_a_broken_protocol_is_an_error_that_names_the_line(name: str, says: str) -> None:
    with pytest.raises(UserError, match=r".") as error:
        check(scenario(protocol(getattr(broken_protocols, name), "test")))
    assert says in str(error.value)
    near = {line_of(name), line_of(name) - 1} if name == "hangs" else {line_of(name)}
    assert error.value.place in {f"{SOURCE}:{line}" for line in near}


def test_a_call_that_polls_alone_waits() -> None:
    found = {
        each.prop: each.verdict
        for each in check(scenario(protocol(broken_protocols.spins, "test")))
    }
    assert (found["deadlock"], found["starvation"]) == ("holds", "VIOLATED")


def test_a_call_of_many_ranges_may_take_as_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solo, "STEPS", 3)
    many = tuple((2 * i, 2 * i + 1) for i in range(8))
    solo.run(scenario(load("direct"), 1, 1, ranges=(many,)))
    with pytest.raises(UserError, match="stopped after"):
        solo.run(scenario(protocol(broken_protocols.counts, "test"), 1, 1))


def test_what_does_not_do_the_same_twice_is_noticed() -> None:
    random.seed(0)
    with pytest.raises(UserError, match="after the same results"):
        check(scenario(protocol(broken_protocols.throws_dice, "test")))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("writes_a_global_list", "the protocol changes SCRATCH, which all vCPUs share"),
        ("writes_a_global_number", "the protocol changes COUNT, which all vCPUs share"),
        ("writes_a_class", "a protocol must not set ScratchVm.current itself"),
        ("writes_a_list_of_the_vm", "the protocol changes ScratchVm.todo, which"),
        ("writes_another_class", "the protocol changes Scratch.items, which all vCPUs share"),
        ("writes_an_instance", "the protocol changes NOTES, which all vCPUs share"),
        ("writes_a_default", "the protocol changes writes_a_default.__kwdefaults__, which"),
        ("writes_itself", "the protocol changes writes_itself.__dict__, which all vCPUs"),
        ("sets_and_clears", "the protocol changes BUSY, which all vCPUs share"),
    ],
)
def test_state_outside_the_vm_is_noticed(name: str, says: str) -> None:
    row = PROTOCOLS["direct"]
    call = getattr(hidden_state, name)
    vm = hidden_state.ScratchVm
    with pytest.raises(UserError) as error:
        check(scenario(replace(row, call=call, vm=vm)))
    assert says in error.value.problem
    assert error.value.place is not None
    assert error.value.place.startswith(f"{hidden_state.__file__}:")


def test_a_closure_that_all_vcpus_share_is_noticed() -> None:
    with pytest.raises(UserError, match="changes shared of closed_over"):
        check(scenario(protocol(hidden_state.closed(), "test")))
    check(scenario(protocol(broken_protocols.mutex, "test")))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("swallows", "stopped after"),
        ("swallows_all", "stopped after"),
        ("exits", "exits the program"),
    ],
)
def test_no_except_hides_an_error(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check(scenario(protocol(getattr(unsound_protocols, name), "test")))


def test_a_finally_that_yields_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    verdicts = check(scenario(protocol(unsound_protocols.unlocks_finally, "test")))
    assert {each.verdict for each in verdicts if each.prop in SAFETY} == {"holds"}
    gc.collect()
    assert capfd.readouterr().err == ""


def test_a_call_without_operations_is_an_error() -> None:
    with pytest.raises(UserError, match="without a single operation"):
        check(scenario(protocol(broken_protocols.silent, "test")))


def test_places_that_differ_only_in_a_hidden_iterator_are_different() -> None:
    def twice(vm: Vm, ranges: Any) -> Steps:
        for _ in (1, 1):
            yield vm.mmu.zap(*ranges[0])

    automaton = Automaton(protocol(twice, "test"), Vm())
    first = automaton.start((ALL_GFNS,))
    second = automaton.after((ALL_GFNS,), first, None)
    third = automaton.after((ALL_GFNS,), second, None)
    assert first.key != second.key
    assert third.operation is None


def test_equal_places_reached_differently_are_one() -> None:
    v4 = load("v4")
    automaton = Automaton(v4, v4.vm())
    results = (True, None, True, None, 0, None, ALL_GFNS, None, None, None)
    again = (*results, ALL_GFNS, None, None, None)
    assert automaton.replay((ALL_GFNS,), results).key == automaton.replay((ALL_GFNS,), again).key


def collects(vm: Vm, ranges: Any) -> Steps:
    done = []
    while len(done) < 2:
        done.append((yield vm.memory.alloc()))
    yield vm.mmu.zap(*ranges[0])


def test_a_list_is_compared_by_what_it_holds() -> None:
    automaton = Automaton(protocol(collects, "test"), Vm())
    keys = {
        automaton.replay((ALL_GFNS,), results).key
        for results in ((True, False), (True, False), (False, True))
    }
    assert len(keys) == 2


def test_what_cannot_be_compared_falls_back_on_the_results() -> None:
    def opaque(vm: Vm, ranges: Any) -> Steps:
        hidden = object()
        yield vm.memory.alloc()
        yield vm.memory.alloc()
        yield vm.mmu.zap(*ranges[0])
        del hidden

    automaton = Automaton(protocol(opaque, "test"), Vm())
    one = automaton.replay((ALL_GFNS,), (True, False))
    other = automaton.replay((ALL_GFNS,), (False, True))
    assert one.key != other.key
    assert one.operation == other.operation
    assert automaton.replay((ALL_GFNS,), (True, False)).key == one.key
    assert automaton.replay((ALL_GFNS,), (1, 0)).key != one.key


@pytest.mark.parametrize("name", ["delegates_to_a_list", "delegates_to_an_iterator"])
def test_the_position_in_any_iterator_is_part_of_the_place(name: str) -> None:
    world = scenario(protocol(getattr(unsound_protocols, name), "test"))
    found = {verdict.prop: verdict.verdict for verdict in check(world)}
    assert found["lost zap"] == "VIOLATED"


@pytest.mark.parametrize("name", ["with_a_list", "with_a_lambda", "with_an_inner_generator"])
def test_locals_made_anew_in_every_replay_are_the_same(name: str) -> None:
    world = scenario(protocol(getattr(unsound_protocols, name), "test"))
    found = {verdict.prop: verdict.verdict for verdict in check(world)}
    assert found["lost zap"] == found["deadlock"] == found["ordering"] == "holds"


def test_one_list_twice_is_not_two_lists() -> None:
    one = [1]
    assert freeze((one, one)) != freeze(([1], [1]))
    assert freeze((one, one)) == freeze((one, one))
    freezer = Freezer()
    assert freezer.freeze(one) != freezer.freeze(one)


values = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=3) | st.none() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)


@given(values, values)
def test_frozen_values_are_equal_only_if_values_and_types_are(one: Any, other: Any) -> None:
    assert (freeze(one) == freeze(other)) == (repr(one) == repr(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (0, False), (1, 1.0), (0.0, -0.0), ((1,), (True,)), ("1", b"1"), ([], ())],
)
def test_what_python_calls_equal_may_behave_differently(one: Any, other: Any) -> None:
    assert freeze(one) != freeze(other)
    assert freeze((one, [one])) != freeze((other, [other]))


@pytest.mark.parametrize("value", [object(), (1, [object()]), (1 for _ in ()), {1: object()}])
def test_what_cannot_be_compared_cannot_be_frozen(value: Any) -> None:
    with pytest.raises(UnfreezableError):
        freeze(value)


def test_an_iterator_is_frozen_by_what_is_left() -> None:
    items = iter((1, 2, 3))
    before = freeze(items)
    next(items)
    assert freeze(items) != before
    assert freeze(items) == freeze(items)


def test_a_long_call_is_not_run_anew_for_every_place() -> None:
    begun = []

    def patient(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
        for each in ranges:
            yield vm.mmu.zap(*each)

    class Counted(Automaton):
        def replay(self, *arguments: Any, **options: Any) -> Place:
            begun.append(arguments)
            return super().replay(*arguments, **options)

    row = protocol(patient, "test")
    ranges = tuple((2 * i, 2 * i + 1) for i in range(500))
    automaton = Counted(row, row.vm())
    place = automaton.start(ranges)
    while place.operation is not None:
        place = automaton.after(ranges, place, None)
    assert len(place.results) == 500
    assert len(begun) == LONG + 1  # up to there from the start, then with the one that is there
    again = Automaton(row, row.vm()).replay(ranges, place.results[:300])
    assert again.operation == place.operations[300]


@pytest.mark.parametrize(
    "loop",
    ["while True: pass", "while ranges: ranges = ranges", "for _ in itertools.count(): pass"],
)
def test_a_loop_within_one_line_is_named(tmp_path: Path, loop: str) -> None:
    """Its rounds are no lines: they are counted by instructions."""
    file = tmp_path / "mine.py"
    head = "import itertools\nfrom mtrrzap.protocol import *\ndef mine(vm: Vm, ranges):\n"
    file.write_text(f"{head}    {loop}\n    yield vm.mmu.zap(*ranges[0])\n")
    world = scenario(load(f"{file}:mine"), 2, 1)
    with pytest.raises(UserError, match="stopped after") as caught:
        check(world)
    assert str(caught.value).startswith(f"{file}:4: ")
