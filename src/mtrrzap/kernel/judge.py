"""Whether a real kernel did what a policy says: call by call, range by range, state by state."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from mtrrzap.gfn import Range
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kernel.alone import alone
from mtrrzap.kernel.calls import Call, calls
from mtrrzap.kernel.perform import MSRS, Record
from mtrrzap.kvm import ranges as r
from mtrrzap.kvm.policy import Policy, ToggleRange
from mtrrzap.kvm.replay import Ask, Host, Rule
from mtrrzap.kvm.vcpu import power_on, step
from mtrrzap.x86 import cr0
from mtrrzap.x86 import msr as m

WIDEST = 52
"""Bits of MAXPHYADDR at which both sides are cut: KVM asks for "all" with various ends above."""
ALONE = "direct"
"""The protocol in which every vCPU zaps its own ranges, one by one."""


_FOREIGN = "apicv"
"""In the name of the one other caller, which zaps the APIC's page when APICv goes on or off."""


class Difference(NamedTuple):
    """Where kernel and policy differ; ``event`` is None for the state at the end."""

    event: int | None
    what: str

    def __str__(self) -> str:
        return self.what if self.event is None else f"event {self.event}: {self.what}"


class Verdict(NamedTuple):
    """What came of one run."""

    calls: int
    requests: int
    refused: int
    """Events that the kernel refused."""
    differences: tuple[Difference, ...]

    @property
    def first(self) -> Difference | None:
        """The first difference, or None."""
        return self.differences[0] if self.differences else None


class Beside(NamedTuple):
    """One event: what the kernel did beside what the policy says."""

    number: int
    event: Event
    calls: tuple[Call, ...]
    ask: Ask | None
    difference: str | None


def host_of(record: Record, *, quirk: bool) -> Host:
    """Return the host as a record says it is."""
    return Host(
        maxphyaddr=record.maxphyaddr,
        ept=record.second_stage == "EPT",
        noncoherent_dma=not record.coherent,
        quirk_cd_nw_cleared=quirk,
    )


def beside(
    trace: Trace, made: Iterable[Call], refused: str, policy: Policy, host: Host
) -> Iterator[Beside]:
    """Compare event by event. The host's MAXPHYADDR cuts nothing.

    ``refused`` has a character for each event: 1 if the kernel refused it, else 0.
    """
    by_event: dict[int, list[Call]] = {}
    for call in _own(made):
        by_event.setdefault(call.event, []).append(call)
    rule = Rule(policy, replace(host, maxphyaddr=WIDEST), trace.header)
    states = [power_on(trace.header.maxphyaddr) for _ in range(trace.header.vcpus)]
    for number, event in enumerate(trace.events):
        before = states[event.vcpu]
        after, refusal = step(before, event)
        ask = None if refusal else rule.asks(before, event, after)
        real = tuple(by_event.get(number, ()))
        what = _refusal(refusal, refused[number : number + 1])
        if what is None and event.kind is not Kind.HELD_MSR:
            what = _calls(ask, real, policy)
        yield Beside(number, event, real, ask, what)
        states[event.vcpu] = after


def _own(made: Iterable[Call]) -> Iterator[Call]:
    return (call for call in made if _FOREIGN not in call.by)


def judge(trace: Trace, record: Record, policy: Policy, host: Host) -> Verdict:
    """Compare a whole record with a policy: events, and the state at the end.

    ``trace`` is a ``Program``'s.
    """
    found = verdict(trace, calls(record.trace), record.refused, policy, host)
    state = (Difference(None, what) for what in _state(trace, record))
    return found._replace(differences=(*found.differences, *state))


def verdict(
    trace: Trace, made: Sequence[Call], refused: str, policy: Policy, host: Host
) -> Verdict:
    """Compare the events alone."""
    found = []
    if early := sum(call.event < 0 for call in _own(made)):
        found.append(Difference(None, f"{early} calls before the first event"))
    count, requests = early, 0
    for each in beside(trace, made, refused, policy, host):
        requests += each.ask is not None
        # Nobody was seen to make a held value: the monitor's own write for it does not count.
        count += 0 if each.event.kind is Kind.HELD_MSR else len(each.calls)
        if each.difference is not None:
            what = f"{format_event(each.event)}: {each.difference}"
            found.append(Difference(each.number, what))
    return Verdict(count, requests, refused.count("1"), tuple(found))


def _refusal(rule: str | None, real: str) -> str | None:
    if not real:
        return "the kernel was not asked: the run ended early"
    if (real == "1") == (rule is not None):
        return None
    return "the kernel refuses it" if rule is None else f"the kernel accepts it, although {rule}"


def _calls(ask: Ask | None, real: Sequence[Call], policy: Policy) -> str | None:
    asked = () if ask is None else alone(policy.protocol, ask[1])
    did = r.clamp((Range(call.start, call.end) for call in real), WIDEST)
    same = sorted(r.clamp(asked, WIDEST)) == sorted(did)
    # A request of v6.1 is a call even if its range is empty; one of patch 10 may have no range, and
    # what vCPUs share has no place for an empty one.
    unsaid = policy.protocol != ALONE or policy.toggle_range is not ToggleRange.EVERYTHING
    if ask is None or asked or not unsaid:
        same &= bool(real) == (ask is not None)
    if same:
        return None
    wanted = "no request" if ask is None else f"a request for {shown(asked)}"
    made = f"{len(real)} calls for {shown(did)}" if real else "no call"
    return f"the policy makes {wanted}, the kernel {made}"


def shown(ranges: Iterable[Range]) -> str:
    """Return ranges of gfns in a line."""
    return " ".join(map(str, ranges)) or "no frame"


def _state(trace: Trace, record: Record) -> Iterator[str]:
    """Compare the registers at the end, and the guest's memory."""
    states = [power_on(trace.header.maxphyaddr) for _ in range(trace.header.vcpus)]
    for event in trace.events:
        states[event.vcpu], _ = step(states[event.vcpu], event)
    for number, (state, real) in enumerate(zip(states, record.registers, strict=True)):
        names = ["CR0.CD and NW", *map(m.name, MSRS)]
        model = [state.cr0 & cr0.CD_NW, *map(state.mtrrs.read, MSRS)]
        for name, a, b in zip(names, model, real, strict=True):
            if a != b:
                yield f"vCPU {number} ends with {name} {b:#x} instead of {a:#x}"
    yield from (f"memory is not intact: {what}" for what in record.lost)
