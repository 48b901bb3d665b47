"""What a patch may say was checked, in sentences."""

from __future__ import annotations

from mtrrzap.checker.check import HOLDS, MEASURED, PROPERTIES, Options, Verdict, check
from mtrrzap.checker.properties import work
from mtrrzap.checker.scenario import scenario
from mtrrzap.protocol import PROTOCOLS, Protocol

VCPUS = (2, 3)
PREDECESSOR = "v4"


def checked(protocol: Protocol) -> str:
    """Check a protocol with 2 and 3 vCPUs, one request each, and say what came out."""
    wanted = tuple(name for name in PROPERTIES if name != work.NAME)
    found = [
        check(
            scenario(protocol, vcpus, 1, alloc_fails=protocol.allocates),
            Options(properties=wanted),
        )
        for vcpus in VCPUS
    ]
    holds = [
        name
        for name, *verdicts in zip(wanted, *found, strict=True)
        if all(each.verdict in (HOLDS, MEASURED) for each in verdicts)
    ]
    sentences = []
    if holds:
        sentences.append(
            f"In every interleaving of {' and of '.join(map(str, VCPUS))} vCPUs with 1 request "
            f"each{_failing(protocol)} these properties of 'mtrrzap check' hold: {_listed(holds)}."
        )
    for name, *verdicts in zip(wanted, *found, strict=True):
        wrong = [each for each in verdicts if each.verdict not in (HOLDS, MEASURED)]
        sentences += [
            f"{name}: {each.verdict} ({each.configuration}; {each.detail})." for each in wrong[:1]
        ]
    if protocol.name != PREDECESSOR and "lost zap" in holds:
        sentences.append(_predecessor())
    return " ".join(sentences)


def _failing(protocol: Protocol) -> str:
    return ", where allocation may fail" if protocol.allocates else ""


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _predecessor() -> str:
    """Say what was found about the version that was posted last."""
    posted = PROTOCOLS[PREDECESSOR]
    found: Verdict = check(
        scenario(posted, VCPUS[0], 1, alloc_fails=True), Options(properties=("lost zap",))
    )[0]
    return f"What was posted ({posted.source}) loses a zap: {found.detail}, {found.configuration}."
