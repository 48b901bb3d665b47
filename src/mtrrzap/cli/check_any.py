"""Parts of ``mtrrzap check``: every number of vCPUs, a guest's own requests, certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import typer

from mtrrzap.checker import verifier
from mtrrzap.checker.any_number import certificate
from mtrrzap.checker.any_number.prove import PROPERTIES as DECIDED
from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.any_number.prove import check as prove
from mtrrzap.checker.any_of import check_any_of, ways
from mtrrzap.checker.check import NOT_STARTED, PROPERTIES, UNKNOWN, Options, Verdict, check
from mtrrzap.checker.scenario import Request, Scenario, scenario
from mtrrzap.cli.output import show, write
from mtrrzap.errors import UserError
from mtrrzap.guest.open import load as load_trace
from mtrrzap.kvm.policy import Policy, by_name
from mtrrzap.protocol import PROTOCOLS, Protocol
from mtrrzap.protocol.load import blamed, load
from mtrrzap.study.requests import distinct_requests

ANY = "any"

FEW = 2
"""vCPUs of an interleaving that stands for any number of them."""


class Task(NamedTuple):
    """One protocol's part: its name, what decides it, and how its configuration is called."""

    name: str
    run: Callable[[Options], list[Verdict]]
    configuration: str
    options: Options

    def skipped(self) -> list[Verdict]:
        """Return the verdicts of a task that is not started."""
        asked = [name for name in PROPERTIES if name in self.options.properties]
        title = self.configuration
        return [
            Verdict(name, UNKNOWN, NOT_STARTED, title, 0, 0, 0.0, interrupted=True)
            for name in asked
        ]


def number(text: str) -> int | None:
    """Read how many vCPUs there are: a number, or None for every number."""
    if text == ANY:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UserError(
            f"invalid number of vCPUs: {text!r}", place="vcpus", mend=f"give a number, or {ANY}"
        ) from error


def guest_requests(
    trace: Path, policy: str | None, properties: list[str] | None
) -> tuple[Policy, tuple[Request, ...], list[str]]:
    """Return the policy, the distinct requests of a recorded guest under it, and the properties.

    ``-p`` names a property in this command, and a policy elsewhere in this program: so a name that
    follows it and is not a property's is taken for the policy's.
    """
    properties = list(properties or ())
    if policy is None:
        named = [each for each in properties if each not in PROPERTIES]
        if not named:
            raise UserError("no policy for the guest's requests", place="policy", mend="name one")
        policy = named[0]
        properties.remove(policy)
    row = by_name(policy)
    return row, distinct_requests(load_trace(trace), row), properties


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How many vCPUs there are, what their calls may be for, and where a proof goes."""

    vcpus: int | None
    """None: every number."""
    requests: int
    kinds: tuple[Request, ...]
    each: bool
    """Whether a call may be for any of ``kinds``; else vCPU *i* takes the *i*-th."""
    alloc_fails: bool
    memory: str
    certificate: Path | None

    def task(self, name: str, options: Options) -> Task:
        """Return what there is to do for one protocol. Raises ``UserError``."""
        protocol = load(name)
        if self.vcpus is None:
            return self._proof(name, protocol, options)
        if self.certificate is not None:
            raise UserError(
                f"a certificate of {self.vcpus} vCPUs",
                place="certificate",
                mend=f"ask for {ANY} number of vCPUs: only that is a proof",
            )
        found = self.few(name)
        if not self.each:
            return Task(name, lambda options: check(found, options), found.title(), options)
        every = list(
            ways(
                protocol,
                self.kinds,
                self.vcpus,
                self.requests,
                alloc_fails=self.alloc_fails,
                memory=self.memory,
            )
        )
        return Task(name, lambda options: check_any_of(every, options), found.title(), options)

    def few(self, name: str) -> Scenario:
        """Return the scenario in which vCPU *i* asks for the *i*-th request; of 2, if of any."""
        return scenario(
            load(name),
            FEW if self.vcpus is None else self.vcpus,
            self.requests,
            ranges=self.kinds,
            alloc_fails=self.alloc_fails,
            memory=self.memory,
        )

    def _proof(self, name: str, protocol: Protocol, options: Options) -> Task:
        if options.strategy is not None:
            raise UserError("a proof does not sample", place="strategy", mend="leave it out")
        if self.memory != "sc":
            raise UserError("a proof knows sc only", place="memory", mend="use sc")
        if set(options.properties) == set(PROPERTIES):
            options = replace(options, properties=DECIDED)
        proof = Proof(
            protocol, self.kinds, alloc_fails=self.alloc_fails, properties=options.properties
        )

        def run(options: Options) -> list[Verdict]:
            verdicts = prove(proof, options)
            if self.certificate is not None:
                data = certificate.encoded(certificate.written(proof, name), self.certificate)
                write(self.certificate, data)
            return verdicts

        return Task(name, run, proof.title(), options)


def allowed(name: str, protocols: list[str], place: str) -> str:
    """Return the protocol that a schedule or certificate means: a file only if the user names it.

    Such a file is mailed around, so it must not choose the code that runs here.
    """
    if name in PROTOCOLS or name in protocols:
        return name
    for mine in protocols:  # the same file, but in another folder
        if ".py:" in mine and Path(mine).name == Path(name).name:
            return mine
    shown = ascii(name[:200])
    raise UserError(
        f"its protocol is {shown}, which is not a built-in one",
        place=place,
        mend="to run that file's code, give it as PROTOCOL too"
        if ".py:" in name
        else f"use one of {', '.join(PROTOCOLS)}",
    )


def verify(path: Path, protocols: list[str]) -> None:
    """Verify a certificate, say what it proves, and leave: status 1 if it proves nothing."""
    text = verifier.read(path)
    name = text.get("protocol")
    if not isinstance(name, str):
        raise UserError("the certificate names no protocol", place=str(path))
    try:
        with blamed(Path(name.rpartition(":")[0])):
            holds = verifier.verify(text, load(allowed(name, protocols, str(path))))
    except verifier.RejectedError as error:
        show(f"{path}: REJECTED: {error}\n")
        raise typer.Exit(1) from error
    count = len(text["requests"])
    asked = f", each time for any of {count} requests" if count > 1 else ""
    show(
        f"{path}: verified. {name}, any number of vCPUs that ask for ever{asked}: "
        f"{', '.join(holds)} hold{'s' if len(holds) == 1 else ''}.\n"
    )
    raise typer.Exit(0)
