"""Replay a trace under a policy: which events make a zap request, and for which frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from mtrrzap.gfn import EVERYTHING, Range
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Header
from mtrrzap.kvm import ranges as r
from mtrrzap.kvm.policy import FixedRange, Needs, Policy, ToggleRange
from mtrrzap.kvm.vcpu import Vcpu, power_on, step
from mtrrzap.x86 import msr as m


class Why(StrEnum):
    """The event behind a request."""

    DEF_TYPE = "DEF_TYPE write"
    FIXED = "fixed MTRR write"
    VARIABLE = "variable MTRR write"
    CD_SET = "CD 0->1"
    CD_CLEARED = "CD 1->0"


class Request(NamedTuple):
    """What one event makes KVM zap. It counts once, however many ranges it has.

    ``event`` is the event's position in the trace, from 0. ``ranges`` are gfns after clamping; they
    are empty where the requested range has no frame.
    """

    event: int
    vcpu: int
    why: Why
    ranges: tuple[Range, ...]

    @property
    def frames(self) -> int:
        """The sum of the ranges' frames."""
        return sum(part.frames for part in self.ranges)


HOST_MAXPHYADDR = 46
"""Bits; usual for servers of the time of the series."""


@dataclass(frozen=True, slots=True)
class Host:
    """What the host and its user space add to a trace. The default is the case of the series."""

    maxphyaddr: int = HOST_MAXPHYADDR
    """Host MAXPHYADDR in bits: zaps are clamped to 2^(maxphyaddr - 12) frames."""
    ept: bool = True
    """False: another two-dimensional paging (AMD's NPT)."""
    noncoherent_dma: bool = True
    """A passthrough device that does not snoop is attached."""
    quirk_cd_nw_cleared: bool = True
    """KVM_X86_QUIRK_CD_NW_CLEARED, on unless user space disables it."""
    quirk_ignore_guest_pat: bool = True
    """KVM_X86_QUIRK_IGNORE_GUEST_PAT (commit c9c1e20b4c7d), on unless user space disables it, which
    needs a processor with self-snoop. Older kernels behave as if it is on."""
    guest_has_mtrr: bool = True
    """CPUID.1:EDX.MTRR as the guest sees it."""
    largest_page: int = 3
    """Level of the largest page by which the host backs the guest: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB."""

    def honours(self, needs: Needs) -> bool:
        """Tell if a policy with these needs makes requests for this VM at all."""
        return self.noncoherent_dma and (self.ept or needs is Needs.TDP)


class Events(Protocol):
    """A ``Trace`` or a ``Reader``: a header, and events in order."""

    @property
    def header(self) -> Header: ...  # noqa: D102
    def __iter__(self) -> Iterator[Event]: ...


def replay(trace: Events, policy: Policy, host: Host | None = None) -> Iterator[Request]:
    """Yield the zap requests of a trace under a policy, in order, one pass, in constant memory.

    Events that were refused, or that KVM would refuse, change nothing and ask for nothing. A vCPU
    is in its state after RESET until its first event.
    """
    for position, vcpu, _, ask in _steps(trace, policy, host or Host()):
        if ask is not None:
            yield Request(position, vcpu, *ask)


class Transition(NamedTuple):
    """An event that changed a vCPU's state, made a request, or both."""

    event: int
    """The event's position in the trace, from 0."""
    vcpu: int
    after: Vcpu
    request: Request | None


def steps(trace: Events, policy: Policy, host: Host | None = None) -> Iterator[Transition]:
    """Yield the states that a trace's vCPUs go through, with the requests of ``replay``."""
    for position, vcpu, node, ask in _steps(trace, policy, host or Host()):
        request = None if ask is None else Request(position, vcpu, *ask)
        yield Transition(position, vcpu, node.state, request)


def _steps(
    trace: Events, policy: Policy, host: Host
) -> "Iterator[tuple[int, int, _Node, Ask | None]]":
    rule = Rule(policy, host, trace.header)
    start = _Node(power_on(trace.header.maxphyaddr))
    memo = _Memo(rule, start)
    nodes = [start] * trace.header.vcpus
    for position, event in enumerate(trace):
        vcpu = event.vcpu
        key = event[1:5]
        before = nodes[vcpu]
        edge = before.edges.get(key)
        if edge is None:
            edge = memo.learn(before, key, event)
        after, ask = edge
        if after is not before or ask is not None:
            nodes[vcpu] = after
            yield position, vcpu, after, ask


def _slots(header: Header) -> tuple[Range, ...]:
    """Return the memslots in order; without any in the header, everything counts as one slot."""
    slots = {Range(slot.start, slot.end) for slot in header.memslots}
    return tuple(sorted(slots)) or (EVERYTHING,)


Ask = tuple[Why, tuple[Range, ...]]
"""Why an event asks, and for which gfns."""


class Rule:
    """A policy on a host: a pure function from (state, event, next state) to a request."""

    def __init__(self, policy: Policy, host: Host, header: Header) -> None:
        self._policy = policy
        self._host = host
        self._slots = _slots(header)
        self._honours = host.honours(policy.needs)
        quirk = host.quirk_cd_nw_cleared
        self._on_write = [policy.mtrr_write.holds(cd=cd, quirk=quirk) for cd in (False, True)]
        self._on_toggle = [policy.cd_toggle.holds(cd=cd, quirk=quirk) for cd in (False, True)]

    def asks(self, before: Vcpu, event: Event, after: Vcpu) -> Ask | None:
        """Return why and for which gfns an event that was not refused asks, or None."""
        if not self._honours:
            return None
        if event.kind is Kind.CR0:
            why, wanted = self._toggle(before, after)
        elif event.kind in (Kind.WRMSR, Kind.HOST_WRMSR):
            why, wanted = self._mtrr_write(event.msr, after)
        else:
            return None
        if wanted is None:
            return None
        if self._policy.by_memslot:
            wanted = r.split_everything(wanted, self._slots)
        return why, r.clamp(wanted, self._host.maxphyaddr)

    def _toggle(self, before: Vcpu, after: Vcpu) -> tuple[Why, tuple[Range, ...] | None]:
        policy, host = self._policy, self._host
        why = Why.CD_SET if after.cd else Why.CD_CLEARED
        if before.cd == after.cd or not self._on_toggle[after.cd]:
            return why, None
        cd_type = policy.cd_type(quirk=host.quirk_cd_nw_cleared)
        if policy.toggle_range is ToggleRange.EVERYTHING or cd_type is None:
            return why, (EVERYTHING,)
        fine = r.fine_grained(after.mtrrs, cd_type, guest_has_mtrr=host.guest_has_mtrr)
        return why, fine

    def _mtrr_write(self, msr: int, after: Vcpu) -> tuple[Why, tuple[Range, ...] | None]:
        if msr == m.DEF_TYPE:
            why = Why.DEF_TYPE
        else:
            why = Why.FIXED if msr in m.FIXED_INDEX else Why.VARIABLE
        wanted = r.of_mtrr_write(after.mtrrs, msr) if self._on_write[after.cd] else None
        if wanted and why is Why.FIXED and self._policy.fixed_range is FixedRange.AREA:
            wanted = (r.FIXED_AREA,)
        return why, wanted


class _Node:
    """A vCPU state and the transitions learned from it: event key -> (next node, request)."""

    __slots__ = ("edges", "state")

    def __init__(self, state: Vcpu) -> None:
        self.state = state
        self.edges: dict[tuple[object, ...], tuple[_Node, Ask | None]] = {}


class _Memo:
    """The vCPUs' states as an automaton that is learned on the way.

    Guests go through the same few states again and again, on every vCPU; a replay is a walk along
    known edges most of the time.
    """

    _LIMIT = 10_000
    """Edges kept before all is forgotten: a hostile trace must not fill the memory."""

    def __init__(self, rule: Rule, start: _Node) -> None:
        self._rule = rule
        self._nodes: dict[Vcpu, _Node] = {start.state: start}
        self._learned: list[_Node] = []
        """The source of each edge kept: nodes that vCPUs stand on may be in no other list."""

    def learn(self, node: _Node, key: tuple[object, ...], event: Event) -> tuple[_Node, Ask | None]:
        if len(self._learned) >= self._LIMIT:
            self._forget()
        before = node.state
        after, refused = step(before, event)
        edge: tuple[_Node, Ask | None] = (node, None)
        if refused is None:
            there = self._nodes.get(after)
            if there is None:
                there = self._nodes[after] = _Node(after)
            edge = (there, self._rule.asks(before, event, after))
        self._learned.append(node)
        node.edges[key] = edge
        return edge

    def _forget(self) -> None:
        for node in self._learned:
            node.edges.clear()
        self._learned.clear()
        self._nodes.clear()


def total(requests: Iterable[Request]) -> "Totals":
    """Add up requests, their ranges and the frames they ask for."""
    count = ranges = frames = 0
    for request in requests:
        count += 1
        ranges += len(request.ranges)
        frames += request.frames
    return Totals(count, ranges, frames)


class Totals(NamedTuple):
    """Requests, ranges, and frames asked for (a frame asked for twice counts twice)."""

    requests: int
    ranges: int
    frames: int
