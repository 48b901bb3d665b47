"""Protocols that lose a zap, and do what they can to be called *holds for every number*."""

from __future__ import annotations

import pytest

from helpers.adversarial_protocols import CALLS
from mtrrzap.checker import automaton
from mtrrzap.checker.any_number import certificate
from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.properties import lost_zap
from mtrrzap.checker.result import Limits
from mtrrzap.errors import UserError
from mtrrzap.protocol.registry import protocol

WHY = {
    "in_the_lock": "changes FlagVm.lock, which all vCPUs share",
    "in_the_environment": "a call does not do the same again",
    "by_position": "has no attribute 'position'",
    "by_hidden_position": "does more with a Sequence's number than compare it",
    "by_text": "a Sequence's number has no text",
    "by_constant": "does more with a Sequence's number than compare it",
    "by_a_waited_constant": "does more with a Sequence's number than compare it",
    "by_an_initial_value": "limit.load() sends back a Sequence's number",
    "wraps": "taken is a Sequence with an effect of its own",
    "asks_an_owner": "own is symmetric, but what own.use() does depends on who",
    "asks_a_coin": "own.use() has 2 outcomes",
    "counts_for_ever": "views, not closed",
}
"""Where it is not that the views do not prove it."""


@pytest.mark.parametrize("name", CALLS)
def test_none_is_called_holds_for_every_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automaton, "LONG", 4)  # so that a few rounds go on with a kept generator
    proof = Proof(protocol(CALLS[name], "test"), properties=(lost_zap.NAME,))
    try:
        proof.run(Limits(states=100_000))
    except UserError as error:
        why = str(error)
    else:
        assert lost_zap.NAME not in proof.proved
        assert lost_zap.NAME not in certificate.certified(proof)
        why = proof.why[lost_zap.NAME]
    assert WHY.get(name, "views of two other vCPUs do not prove it") in why
