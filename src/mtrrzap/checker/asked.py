"""What is asked about a protocol: of how many vCPUs, and what their calls may be for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from mtrrzap.checker.any_number import prove
from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.any_of import check_any_of, ways
from mtrrzap.checker.check import NOT_STARTED, PROPERTIES, UNKNOWN, Options, Verdict, check
from mtrrzap.checker.scenario import Request, Scenario, scenario
from mtrrzap.errors import UserError
from mtrrzap.protocol import ALL_GFNS, Protocol

FEW = 2
"""vCPUs of an interleaving that stands for any number of them."""


class CheckTask(NamedTuple):
    """What decides the properties, with which options, and how its configuration is called."""

    run: Callable[[Options], list[Verdict]]
    options: Options
    configuration: str
    proof: Proof | None = None
    """For every number of vCPUs."""

    def skipped(self) -> list[Verdict]:
        """Return the verdicts of a task that is not started."""
        asked = [name for name in PROPERTIES if name in self.options.properties]
        title = self.configuration
        return [
            Verdict(name, UNKNOWN, NOT_STARTED, title, 0, 0, 0.0, interrupted=True)
            for name in asked
        ]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How many vCPUs there are, and what their calls may be for."""

    vcpus: int | None = 2
    """None: every number."""
    requests: int = 1
    kinds: tuple[Request, ...] = ((ALL_GFNS,),)
    each: bool = False
    """Whether a call may be for any of ``kinds``; else vCPU *i* takes the *i*-th."""
    alloc_fails: bool = True
    memory: str = "sc"

    def task(self, protocol: Protocol, options: Options) -> CheckTask:
        """Return what there is to do for one protocol. Raises ``UserError``."""
        if self.vcpus is None:
            return self._proof(protocol, options)
        found = self.few(protocol)
        if not self.each:
            return CheckTask(lambda options: check(found, options), options, found.title())
        every = list(
            ways(
                *(protocol, self.kinds, self.vcpus, self.requests),
                alloc_fails=self.alloc_fails,
                memory=self.memory,
            )
        )
        return CheckTask(lambda options: check_any_of(every, options), options, found.title())

    def few(self, protocol: Protocol) -> Scenario:
        """Return the scenario in which vCPU *i* asks for the *i*-th request; of 2, if of any."""
        return scenario(
            protocol,
            FEW if self.vcpus is None else self.vcpus,
            self.requests,
            ranges=self.kinds,
            alloc_fails=self.alloc_fails,
            memory=self.memory,
        )

    def _proof(self, protocol: Protocol, options: Options) -> CheckTask:
        if options.strategy is not None:
            raise UserError("a proof does not sample", place="strategy", mend="leave it out")
        if self.memory != "sc":
            raise UserError("a proof knows sc only", place="memory_model", mend="use sc")
        if set(options.properties) == set(PROPERTIES):
            options = replace(options, properties=prove.PROPERTIES)
        proof = Proof(
            protocol, self.kinds, alloc_fails=self.alloc_fails, properties=options.properties
        )
        return CheckTask(lambda options: prove.check(proof, options), options, proof.title(), proof)
