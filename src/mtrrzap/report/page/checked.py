"""What every interleaving of a policy's protocol says, and its counterexamples."""

from typing import NamedTuple

from mtrrzap.engine.check.check import PROPERTIES, Options, check
from mtrrzap.engine.check.properties import work
from mtrrzap.engine.check.scenario import scenario
from mtrrzap.kvm.policy import Policy
from mtrrzap.protocol import PROTOCOLS
from mtrrzap.report.counterexample import drawn

VCPUS = 2
REQUESTS = 1
"""The size checked: the counterexamples of the published versions need no more."""


class Property(NamedTuple):
    """One property's verdict; ``drawing`` is its counterexample in columns, if it has one."""

    name: str
    verdict: str
    detail: str
    states: int
    drawing: str | None


class Checked(NamedTuple):
    """A protocol and its properties."""

    policy: str
    protocol: str
    source: str
    world: str
    properties: tuple[Property, ...]


def checked(policy: Policy) -> Checked:
    """Explore a policy's protocol with 2 vCPUs, one request each."""
    protocol = PROTOCOLS[policy.protocol]
    world = scenario(protocol, VCPUS, REQUESTS, alloc_fails=protocol.allocates)
    wanted = tuple(name for name in PROPERTIES if name != work.NAME)
    verdicts = check(world, Options(properties=wanted))
    return Checked(
        policy=policy.name,
        protocol=protocol.name,
        source=protocol.source,
        world=world.title(),
        properties=tuple(
            Property(
                each.prop,
                each.verdict,
                each.detail,
                each.states,
                drawn(each.counterexample, protocol.name) if each.counterexample else None,
            )
            for each in verdicts
        ),
    )
