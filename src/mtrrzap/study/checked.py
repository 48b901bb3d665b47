"""What a policy's protocol does with the requests of recorded guests: verdicts, counterexamples."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.any_number.prove import check as prove
from mtrrzap.checker.any_of import check_any_of, ways
from mtrrzap.checker.check import HOLDS, UNKNOWN, Options, Verdict
from mtrrzap.checker.result import Limits
from mtrrzap.errors import UserError
from mtrrzap.gfn import ALL_GFNS, Range
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.protocol import PROTOCOLS, Protocol

SECONDS = 60.0
"""How long a proof for every number of vCPUs may take here, and each search that stands in."""

VCPUS = 2
"""vCPUs of the search that stands in for a proof."""

Requests = tuple[tuple[Range, ...], ...]


class CheckedProtocol(NamedTuple):
    """A protocol and its properties."""

    policy: str
    protocol: str
    source: str
    configuration: str
    properties: tuple[Verdict, ...]


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
        properties=tuple(verdicts),
    )


def distinct_requests(trace: Trace, policy: Policy, host: Host | None = None) -> Requests:
    """Return the distinct requests of a trace under a policy, in the order of their first event.

    A request for no frame is left out: KVM calls no protocol for it.

    Raises:
        UserError: if the policy asks for nothing.
    """
    found = (request.ranges for request in replay(trace, policy, host))
    distinct = tuple(dict.fromkeys(ranges for ranges in found if ranges))
    if not distinct:
        raise UserError(
            f"the trace makes no request under {policy.name}",
            mend="choose a policy that zaps, or another trace",
        )
    return distinct


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
