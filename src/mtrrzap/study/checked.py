"""What every interleaving of a policy's protocol says, and its counterexamples."""

from typing import NamedTuple

from mtrrzap.checker.check import PROPERTIES, Counterexample, Options, check
from mtrrzap.checker.properties import work
from mtrrzap.checker.scenario import scenario
from mtrrzap.kvm.policy import Policy
from mtrrzap.protocol import PROTOCOLS

VCPUS = 2
REQUESTS = 1
"""The size checked: the counterexamples of the published versions need no more."""


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


def checked(policy: Policy) -> CheckedProtocol:
    """Explore a policy's protocol with 2 vCPUs, one request each."""
    protocol = PROTOCOLS[policy.protocol]
    explored = scenario(protocol, VCPUS, REQUESTS, alloc_fails=protocol.allocates)
    wanted = tuple(name for name in PROPERTIES if name != work.NAME)
    verdicts = check(explored, Options(properties=wanted))
    return CheckedProtocol(
        policy=policy.name,
        protocol=protocol.name,
        source=protocol.source,
        configuration=explored.title(),
        properties=tuple(
            CheckedProperty(each.prop, each.verdict, each.detail, each.states, each.counterexample)
            for each in verdicts
        ),
    )
