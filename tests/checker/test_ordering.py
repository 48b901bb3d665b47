import pytest

from helpers import broken_protocols, hasty_ticket, unsound_protocols
from mtrrzap.checker.explore import Search
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties import ordering
from mtrrzap.checker.properties.ordering import Ordering
from mtrrzap.checker.result import Exploration
from mtrrzap.checker.scenario import scenario
from mtrrzap.protocol import RELAXED, Protocol
from mtrrzap.protocol.load import load
from mtrrzap.protocol.registry import protocol


def explored(row: Protocol, vcpus: int = 2, *, symmetry: bool = True) -> Exploration:
    world = scenario(row, vcpus, 1)
    return Search(Model(world, Ordering(world, row.vm.objects())), symmetry=symmetry).run()


@pytest.mark.parametrize(("name", "steps"), [("v4", 20), ("sketch", 23), ("review", 21)])
def test_a_waiter_that_leaves_on_a_plain_read_is_not_ordered(name: str, steps: int) -> None:
    found = explored(load(name))
    assert set(found.violations) == {ordering.FLAG}
    assert len(found.violations[ordering.FLAG].schedule) == steps


@pytest.mark.parametrize("name", ["direct", "ticket"])
@pytest.mark.parametrize("vcpus", [2, 3])
def test_these_are_ordered(name: str, vcpus: int) -> None:
    found = explored(load(name), vcpus)
    assert found.cut is None
    assert not found.violations


def test_ticket_orders_vcpus_that_ask_for_different_ranges() -> None:
    """Whoever leaves on a later number has acquired that one alone, so its zapper must have too."""
    ranges = ((0x1000, 0x2000),), ((0x2000, 0x3000),), ((0x4000, 0x5000),)
    for row, violated in ((load("ticket"), False), (protocol(hasty_ticket.hasty, "test"), True)):
        world = scenario(row, 3, 2, ranges=ranges)
        found = Search(Model(world, Ordering(world, row.vm.objects()))).run()
        assert found.cut is None
        assert (ordering.FLAG in found.violations) is violated


def test_acquire_and_release_order() -> None:
    assert not explored(protocol(broken_protocols.mutex, "test")).violations


def test_acquiring_a_relaxed_store_orders_nothing() -> None:
    found = explored(protocol(broken_protocols.relaxed_flag, "test"))
    assert ordering.FLAG in found.violations


@pytest.mark.parametrize("name", ["v4", "review", "ticket"])
def test_symmetry_changes_no_verdict(name: str) -> None:
    merged, whole = explored(load(name), 3), explored(load(name), 3, symmetry=False)
    assert set(merged.violations) == set(whole.violations)
    assert merged.states < whole.states <= 6 * merged.states


@pytest.mark.parametrize(("name", "ordered"), [("full_barriers", True), ("no_barriers", False)])
def test_a_bare_exchange_that_succeeds_is_fully_ordered(name: str, ordered: bool) -> None:
    found = explored(protocol(getattr(unsound_protocols, name), "test"))
    assert (ordering.FLAG not in found.violations) is ordered
    vm = unsound_protocols.GateVm()
    assert str(vm.state.cmpxchg(0, 1)) == "state.cmpxchg(0, 1)"
    assert str(vm.state.cmpxchg(0, 1, RELAXED)) == "state.cmpxchg_relaxed(0, 1)"
