"""Leaves that outlive their type in a real kernel, against what ``kvm.audit`` says may be there."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from mtrrzap.guest.event import Kind
from mtrrzap.kernel.deep import Entries, moments
from mtrrzap.kernel.perform import Record
from mtrrzap.kernel.program import Program
from mtrrzap.kvm.audit.auditor import Finding, audit
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.vcpu import Vcpu, power_on
from mtrrzap.x86.ept import EptType

_Typed = tuple[int, EptType | None]
"""A leaf's gfn and type."""


class Stale(NamedTuple):
    """What was found. A leaf is stale if no vCPU would install its type now."""

    leaves: int
    """Different pairs of gfn and type that were stale after some event."""
    events: int
    """Events after which some leaf was stale."""
    unforeseen: int
    """Of the leaves, those that were stale when the audit says that they cannot be."""


def stale(made: Program, record: Record, policy: Policy, host: Host) -> Stale:
    """Find them in a run whose kernel computed EPT types; ``host`` has EPT."""
    findings = audit(made.trace, policy, host).findings
    start = power_on(made.trace.header.maxphyaddr)
    own = {e.vcpu for e in made.trace.events if e.kind in (Kind.WRMSR, Kind.CR0)}
    states = dict.fromkeys(own, start)  # the vCPUs that the audit takes for running
    frames = made.trace.header.memslots[0].end
    types = _Types(MtMask(policy, host), frames)
    entries, events = Entries(), 0
    found: set[_Typed] = set()
    wrong: set[_Typed] = set()
    for moment in moments(made, record):
        entries.take(chain(moment.touched, moment.zapped, moment.late))
        if moment.event.vcpu in states:
            states[moment.event.vcpu] = moment.after
        now = types.of(frozenset(states.values()))
        kept = {(gfn, t) for (gfn, _), t in entries.leaves.items() if t not in now[gfn]}
        at = moment.position
        open_now = tuple(f for f in findings if f.begin <= at and (f.end is None or at < f.end))
        events += bool(kept)
        found |= kept
        wrong |= kept - _expanded(open_now, frames)
    return Stale(len(found), events, len(wrong))


class _Types:
    """The types that vCPUs in given states would install, frame by frame."""

    def __init__(self, mask: MtMask, frames: int) -> None:
        self._mask, self._frames = mask, frames
        self._known: dict[frozenset[Vcpu], list[set[EptType | None]]] = {}

    def of(self, states: frozenset[Vcpu]) -> list[set[EptType | None]]:
        if states not in self._known:
            found: list[set[EptType | None]] = [set() for _ in range(self._frames)]
            for state in states:
                for stretch in self._mask.stretches(state):
                    for gfn in range(stretch.start, min(stretch.end, self._frames)):
                        found[gfn].add(stretch.type)
            self._known[states] = found
        return self._known[states]


@lru_cache(maxsize=8)
def _expanded(findings: Iterable[Finding], frames: int) -> set[_Typed]:
    return {
        (gfn, finding.type)
        for finding in findings
        for gfn in range(finding.range.start, min(finding.range.end, frames))
    }
