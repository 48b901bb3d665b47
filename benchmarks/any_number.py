"""Proofs for every number of vCPUs: time and views against the number of kinds of requests.

    python benchmarks/any_number.py [--kinds N] [--mutants] [--covered]

The first table has one row for each protocol and number of kinds. Seconds are processor time, of
one thread: for all six properties together, and to verify the certificate, whose size is
compressed. The bound is on the zaps that a call sits through. ``--mutants`` proves every single
mutation of every shipped protocol and searches it with 4 vCPUs, for starvation with 2.
``--covered`` sees that every state
which 2 to 5 vCPUs reach is covered by the views.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from helpers.covering import Covering
from helpers.mutants import mutants, written
from mtrrzap.checker.any_number import certificate
from mtrrzap.checker.any_number.prove import PROPERTIES, Proof
from mtrrzap.checker.check import VIOLATED, Options, check
from mtrrzap.checker.explore import Search
from mtrrzap.checker.ghost import NoGhost
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties import lost_zap, starvation
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import Request, scenario
from mtrrzap.checker.verifier import verify
from mtrrzap.errors import UserError
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS, Protocol, Range

FIXED, LOW, HIGH = Range(0, 0x100), Range(0x80000, 0x100000), Range(0x100000, 0x400000)
KINDS: tuple[Request, ...] = (
    (ALL_GFNS,),
    (FIXED,),
    (LOW,),
    (FIXED, LOW),
    (HIGH,),
)
"""Everything, the fixed area, one variable range, both of these, and another variable range."""

SAFETY = tuple(name for name in PROPERTIES if name != starvation.NAME)
LINE = "{:11} {:>5} {:>6} {:>7} {:>6} {:>10} {:>8} {:>10} {:>8} {:>8} {:>6}"


def row(protocol: Protocol, kinds: int) -> str:
    """Return one row of the first table."""
    started = time.process_time()
    proof = Proof(protocol, KINDS[:kinds])
    proof.run(Limits(seconds=600))
    proved = time.process_time()
    text = certificate.written(proof, protocol.name)
    size = len(certificate.encoded(text, Path("certificate.json.gz")))
    written = time.process_time()
    assert verify(text, protocol) == certificate.certified(proof)
    return LINE.format(
        protocol.name,
        kinds,
        len(proof.steps.values),
        len(proof.steps.locals),
        len(proof.alike),
        f"{proof.views:,}",
        f"{proved - started:.2f}",
        "holds" if lost_zap.NAME in proof.proved else "not proved",
        proof.bound if proof.bound is not None else "-",
        f"{size / 1000:.1f}",
        f"{time.process_time() - written:.2f}",
    )


def by_kinds(most: int) -> None:
    """Print the first table."""
    heads = (
        "protocol", "kinds", "values", "states", "alike", "views", "seconds", "lost zap",
        "bound", "kB", "verify",
    )  # fmt: skip
    print(LINE.format(*heads))
    for protocol in PROTOCOLS.values():
        for kinds in range(1, most + 1):
            print(row(protocol, kinds), flush=True)


def kind_of(what: str) -> str:
    """Return what kind of mutation this is."""
    if what.endswith("without its locks"):
        return "locks left out"
    if what.endswith("relaxed"):
        return "order weakened"
    return "operation dropped" if ": without " in what else "two swapped"


def mutations() -> None:
    """Print how many mutants there are, and how many of them are refuted, proved, or neither."""
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name in PROTOCOLS:
            for i, mutant in enumerate(
                mutants(importlib.import_module(f"mtrrzap.protocol.{name}"))
            ):
                total["mutants"] += 1
                total[f"  {kind_of(mutant.what)}"] += 1
                place = Path(folder) / f"{name}{i}"
                place.mkdir()
                try:
                    protocol = written(mutant, place, name)
                    proof = Proof(protocol)
                    proof.run(Limits(seconds=60))
                    world = scenario(protocol, 4, 1, alloc_fails=True)
                    verdicts = check(world, Options(properties=SAFETY))
                    small = scenario(protocol, 2, 1, alloc_fails=True)
                    few = Options(properties=(starvation.NAME,), limits=Limits(states=50_000))
                    verdicts += check(small, few)
                except UserError:
                    total["no protocol"] += 1
                    continue
                proved = {*proof.proved}
                bad = {each.prop for each in verdicts if each.verdict == VIOLATED}
                total["refuted by 4 vCPUs; starvation: by 2"] += bool(bad)
                total["refuted, and yet proved"] += bool(bad & proved)
                total["refuted but for starvation"] += bool(bad & {*SAFETY})
                total["proved in all but starvation"] += {*SAFETY} <= proved
                total["one of these neither proved nor refuted"] += bool({*SAFETY} - bad - proved)
    for what, count in total.items():
        print(f"{what:40} {count:5}")


def covered() -> None:
    """Print how many states the bounded search reaches, all of which the views must cover."""
    for name, protocol in PROTOCOLS.items():
        proof = Proof(protocol, properties=("capacity",))
        proof.run()
        states = 0
        for vcpus, requests in ((2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (5, 1)):
            model = Model(scenario(protocol, vcpus, requests, alloc_fails=True), NoGhost())
            search = Search(model)
            search.run()
            covering = Covering(proof, model)
            if not all(covering.covers(state) for state in search.states):
                sys.exit(f"{name}: a state of {vcpus} vCPUs is not covered")
            states += len(search.states)
        print(f"{name:11} {states:>10,} states of 2 to 5 vCPUs, all covered", flush=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--kinds", type=int, default=4)
    options.add_argument("--mutants", action="store_true")
    options.add_argument("--covered", action="store_true")
    given = options.parse_args()
    if given.mutants:
        mutations()
    elif given.covered:
        covered()
    else:
        by_kinds(given.kinds)
