"""What is to be explored: the protocol, who asks for what, and what may go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mtrrzap.errors import UserError, counted
from mtrrzap.protocol import ALL_GFNS, Protocol, Range

Request = tuple[Range, ...]
"""The ranges that one event makes KVM zap."""

MEMORY_MODELS = ("sc", "tso")
MAX_VCPUS = 12
MAX_REQUESTS = 1000


@dataclass(frozen=True)
class Scenario:
    """One bounded configuration. vCPUs with equal request lists are interchangeable.

    ``requests`` has one entry per vCPU: the requests it makes, one after the other. With
    ``forever`` it starts again after the last. ``apart`` are vCPUs that a property watches, which
    therefore are interchangeable with none.
    """

    protocol: Protocol
    requests: tuple[tuple[Request, ...], ...]
    alloc_fails: bool = False
    memory: str = "sc"
    forever: bool = False
    apart: frozenset[int] = field(default_factory=frozenset)

    @property
    def vcpus(self) -> int:
        """How many vCPUs there are."""
        return len(self.requests)

    def groups(self) -> tuple[int, ...]:
        """Return for each vCPU the number of its group of interchangeable vCPUs."""
        if self.named:
            return tuple(range(self.vcpus))
        known: dict[object, int] = {}
        keys = (
            (requests, vcpu if vcpu in self.apart else -1)
            for vcpu, requests in enumerate(self.requests)
        )
        return tuple(known.setdefault(key, len(known)) for key in keys)

    @property
    def named(self) -> bool:
        """Whether values hold names of vCPUs, as a lock's queue does: then none is like another."""
        return self.forever or not self.symmetric

    @property
    def symmetric(self) -> bool:
        """Whether no object asks who uses it."""
        return all(known.is_symmetric() for known in self.protocol.vm.objects())

    def watching(self, vcpu: int) -> Scenario:
        """Return the same scenario with ``vcpu`` set apart."""
        return replace(self, apart=self.apart | {vcpu})

    def together(self) -> tuple[Scenario, tuple[int, ...]]:
        """Return it with interchangeable vCPUs side by side, and which vCPU here each of them is.

        Only neighbours can be exchanged, so this is the scenario to search.
        """
        groups = self.groups()
        order = tuple(sorted(range(self.vcpus), key=groups.__getitem__))
        requests = tuple(self.requests[vcpu] for vcpu in order)
        apart = frozenset(i for i, vcpu in enumerate(order) if vcpu in self.apart)
        return replace(self, requests=requests, apart=apart), order

    def title(self) -> str:
        """Describe the configuration in a few words."""
        if self.forever:
            failing = ", allocation may fail" if self.alloc_fails else ""
            asking = "vCPU that asks" if self.vcpus == 1 else "vCPUs that ask"
            return f"{self.vcpus} {asking} for ever{failing}"
        counts = {len(requests) for requests in self.requests}
        each = f"{counts.pop()}" if len(counts) == 1 else "some"
        parts = [counted(self.vcpus, "vCPU"), f"{each} request{'s' if each != '1' else ''} each"]
        if self.alloc_fails:
            parts.append("allocation may fail")
        if self.memory != "sc":
            parts.append(self.memory)
        return ", ".join(parts)


def scenario(
    protocol: Protocol,
    vcpus: int = 2,
    requests: int = 1,
    *,
    ranges: Sequence[Request] = ((ALL_GFNS,),),
    alloc_fails: bool = False,
    memory: str = "sc",
) -> Scenario:
    """Make the usual scenario: vCPU *i* asks ``requests`` times for ``ranges[i % len(ranges)]``.

    Raises:
        UserError: if a size, a range or the memory model is invalid.
    """
    if vcpus not in range(1, MAX_VCPUS + 1):
        raise UserError(f"invalid number of vCPUs: {vcpus!r}", mend=f"use 1 to {MAX_VCPUS}")
    if requests not in range(1, MAX_REQUESTS + 1):
        mend = f"use 1 to {MAX_REQUESTS:,}"
        raise UserError(f"invalid number of requests: {requests!r}", mend=mend)
    if memory not in MEMORY_MODELS:
        raise UserError(f"unknown memory model {memory!r}", mend="use sc or tso")
    for request in ranges:
        for start, end in request:
            if not 0 <= start < end <= ALL_GFNS.end:
                mend = "use 0 <= start < end <= 2^52"
                raise UserError(f"invalid range [{start:#x}, {end:#x})", mend=mend)
    asked = [tuple(Range(*each) for each in request) for request in ranges]
    each = tuple((asked[i % len(asked)],) * requests for i in range(vcpus))
    return Scenario(
        protocol=protocol,
        requests=each,
        alloc_fails=alloc_fails and protocol.allocates,
        memory=memory,
    )
