"""Soundness: whatever the bounded search reaches is covered by the views, for every protocol."""

import pytest

from helpers.covering import Covering
from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.explore import Search
from mtrrzap.checker.ghost import NoGhost
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties import lost_zap, ordering
from mtrrzap.checker.properties.ordering import Ordering
from mtrrzap.checker.scenario import Request, scenario
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS, Range

FIXED: Request = (Range(0, 0x100),)
ALL: Request = (ALL_GFNS,)
SAFETY = (lost_zap.NAME, "deadlock", "unlocked access", "capacity")


def proof_of(name: str, kinds: tuple[Request, ...], *properties: str) -> Proof:
    proof = Proof(PROTOCOLS[name], kinds, properties=properties)
    proof.run()
    return proof


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_reachable_state_is_a_view(name: str) -> None:
    """Without a watched vCPU. The number of states is the search's own, so none is left out."""
    proof = proof_of(name, (ALL,), "capacity")
    for vcpus, requests in ((2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (5, 1)):
        world = scenario(PROTOCOLS[name], vcpus, requests, alloc_fails=True)
        model = Model(world, NoGhost())
        search = Search(model)
        search.run()
        covering = Covering(proof, model)
        assert search.result.cut is None
        assert all(covering.covers(state) for state in search.states), (vcpus, requests)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_two_kinds_of_requests(name: str) -> None:
    proof = proof_of(name, (FIXED, ALL), "capacity")
    for vcpus in (2, 3):
        world = scenario(PROTOCOLS[name], vcpus, 1, ranges=(FIXED, ALL), alloc_fails=True)
        model = Model(world, NoGhost())
        search = Search(model)
        search.run()
        covering = Covering(proof, model)
        assert all(covering.covers(state) for state in search.states)


@pytest.mark.parametrize("name", ["direct", "sketch", "review", "ticket"])
@pytest.mark.parametrize("kinds", [(ALL,), (FIXED, ALL)], ids=["one", "two"])
def test_every_watched_call_is_a_view(name: str, kinds: tuple[Request, ...]) -> None:
    """Whichever vCPU of a reachable state is taken for the watched one."""
    both = (lost_zap.NAME, ordering.NAME)
    proof = proof_of(name, kinds, *both)
    assert proof.watched
    for vcpus in (2, 3):
        if vcpus == 3 and len(kinds) == 2 and name == "ticket":
            continue  # some 30 s
        world = scenario(PROTOCOLS[name], vcpus, 1, ranges=kinds, alloc_fails=True)
        model = Model(world, Ordering(world, world.protocol.vm.objects()))
        search = Search(model, symmetry=False)
        search.run()
        covering = Covering(proof, model)
        for state in search.states:
            assert all(covering.covers_watched(state, watch) for watch in proof.watched)
