"""What a policy's protocol does with the requests of recorded guests: verdicts, counterexamples."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.any_number.prove import check as prove
from mtrrzap.checker.any_of import check_any_of, ways
from mtrrzap.checker.check import HOLDS, UNKNOWN, Counterexample, Options, Verdict
from mtrrzap.checker.result import Limits
from mtrrzap.errors import UserError
from mtrrzap.gfn import ALL_GFNS, Range
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host
from mtrrzap.protocol import PROTOCOLS, Protocol
from mtrrzap.study.requests import distinct_requests

SECONDS = 60.0
"""How long a proof for every number of vCPUs may take here, and each search that stands in."""

VCPUS = 2
"""vCPUs of the search that stands in for a proof."""

Requests = tuple[tuple[Range, ...], ...]


class CheckedProperty(NamedTuple):
    """One property's verdict, and its counterexample if it has one."""

    name: str
    verdict: str
    detail: str
    states: int
    counterexample: Counterexample | None


class CheckedProtocol(NamedTuple):
    """A protocol and its properties."""

    policy: str
    protocol: str
    source: str
    configuration: str
    properties: tuple[CheckedProperty, ...]


def checked(
    policy: Policy, traces: Iterable[Trace] = (), host: Host | None = None
) -> CheckedProtocol:
    """Decide a policy's protocol for every number of vCPUs and the requests of ``traces``.

    Without a trace, or if none makes a request, each call is for everything. Where a proof takes
    too long, 2 vCPUs stand in, and the verdict says so.
    """
    protocol = PROTOCOLS[policy.protocol]
    proof = Proof(protocol, _requests(policy, traces, host))
    verdicts = prove(proof, Options(limits=Limits(seconds=SECONDS)))
    cut = [each.prop for each in verdicts if each.verdict == UNKNOWN]
    if cut:
        known = _bounded(protocol, proof.kinds, tuple(cut))
        verdicts = [_stand_in(each, known) for each in verdicts]
    return CheckedProtocol(
        policy=policy.name,
        protocol=protocol.name,
        source=protocol.source,
        configuration=proof.title(),
        properties=tuple(
            CheckedProperty(each.prop, each.verdict, each.detail, each.states, each.counterexample)
            for each in verdicts
        ),
    )


def _requests(policy: Policy, traces: Iterable[Trace], host: Host | None) -> Requests:
    found: dict[tuple[Range, ...], None] = {}
    for trace in traces:
        try:
            found |= dict.fromkeys(distinct_requests(trace, policy, host))
        except UserError:  # it makes none
            continue
    return tuple(found) or ((ALL_GFNS,),)


def _bounded(protocol: Protocol, kinds: Requests, names: tuple[str, ...]) -> dict[str, Verdict]:
    """Return the verdicts of a few vCPUs on what a proof did not decide."""
    options = Options(properties=names, limits=Limits(seconds=SECONDS))
    found = check_any_of(list(ways(protocol, kinds, VCPUS)), options)
    return {each.prop: each for each in found}


def _stand_in(verdict: Verdict, known: dict[str, Verdict]) -> Verdict:
    other = known.get(verdict.prop)
    if verdict.verdict != UNKNOWN or other is None or other.verdict != HOLDS:
        return verdict
    detail = f"with {VCPUS} vCPUs, one request each; for every number: unknown ({verdict.detail})"
    return replace(verdict, verdict=HOLDS, detail=detail, states=other.states)
