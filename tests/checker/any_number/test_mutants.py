"""No mutant that 4 vCPUs refute is ever called *holds for every number of vCPUs*.

Here those of the small protocols; ``benchmarks/any_number.py --mutants`` does all.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from helpers.mutants import mutants, written
from mtrrzap.checker.any_number import certificate
from mtrrzap.checker.any_number.prove import PROPERTIES, Proof
from mtrrzap.checker.check import VIOLATED, Options, check
from mtrrzap.checker.properties import starvation
from mtrrzap.checker.scenario import scenario
from mtrrzap.checker.verifier import verify
from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS

SHOWN = tuple(name for name in PROPERTIES if name != starvation.NAME)


@pytest.mark.parametrize(
    ("name", "count", "refuted", "proved"),
    [
        ("sketch", 26, 23, 3),
        ("review", 22, 20, 2),
    ],
)
def test_mutants(tmp_path: Path, name: str, count: int, refuted: int, proved: int) -> None:
    """Each by one property at least; ``proved`` are those of which every property is proved."""
    found = list(mutants(importlib.import_module(f"mtrrzap.protocol.{name}")))
    wrong, refutations, proofs = [], 0, 0
    for i, mutant in enumerate(found):
        folder = tmp_path / str(i)
        folder.mkdir()
        row = written(mutant, folder, name)
        proof = Proof(row, properties=SHOWN)
        try:
            proof.run()
            shown = certificate.certified(proof)
            assert not shown or verify(certificate.written(proof, name), row) == shown
            world = scenario(row, 4, 1, alloc_fails=PROTOCOLS[name].allocates)
            verdicts = check(world, Options(properties=SHOWN, engine="python"))
        except UserError:
            continue
        bad = {each.prop for each in verdicts if each.verdict == VIOLATED}
        wrong += [(mutant.what, prop) for prop in bad & {*proof.proved}]
        refutations += bool(bad)
        proofs += {*proof.proved} == {*SHOWN}
    assert not wrong
    assert (len(found), refutations, proofs) == (count, refuted, proved)
