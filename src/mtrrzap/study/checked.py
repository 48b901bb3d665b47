"""What a policy's protocol does with the requests of recorded guests: verdicts, counterexamples."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from mtrrzap.checker.asked import Asked
from mtrrzap.checker.check import HOLDS, UNKNOWN, Options, Verdict
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import Request
from mtrrzap.gfn import ALL_GFNS
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.protocol import PROTOCOLS

SECONDS = 60.0
"""How long a proof for every number of vCPUs may take here, and each search that stands in."""

VCPUS = 2
"""vCPUs of the search that stands in for a proof."""


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
    kinds = distinct_requests(traces, policy, host) or ((ALL_GFNS,),)
    asked = Asked(vcpus=None, kinds=kinds, each=True)
    options = Options(limits=Limits(seconds=SECONDS))
    proof = asked.task(protocol, options)
    verdicts = proof.run(proof.options)
    cut = tuple(each.prop for each in verdicts if each.verdict == UNKNOWN)
    if cut:
        few = replace(asked, vcpus=VCPUS).task(protocol, replace(options, properties=cut))
        known = {each.prop: each for each in few.run(few.options)}
        verdicts = [_stand_in(each, known) for each in verdicts]
    return CheckedProtocol(
        policy=policy.name,
        protocol=protocol.name,
        source=protocol.source,
        configuration=proof.configuration,
        properties=tuple(verdicts),
    )


def distinct_requests(
    traces: Iterable[Trace], policy: Policy, host: Host | None = None
) -> tuple[Request, ...]:
    """Return the distinct requests of traces under a policy, in the order of their first event.

    A request for no frame is left out: KVM calls no protocol for it.
    """
    found = (request.ranges for trace in traces for request in replay(trace, policy, host))
    return tuple(dict.fromkeys(ranges for ranges in found if ranges))


def _stand_in(verdict: Verdict, known: dict[str, Verdict]) -> Verdict:
    other = known.get(verdict.prop)
    if verdict.verdict != UNKNOWN or other is None or other.verdict != HOLDS:
        return verdict
    detail = f"with {VCPUS} vCPUs, one request each; for every number: unknown ({verdict.detail})"
    return replace(verdict, verdict=HOLDS, detail=detail, states=other.states)
