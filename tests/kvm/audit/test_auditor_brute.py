"""The audit against every interleaving of faults: all page tables that can be there, one by one."""

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.naive_tdp import SIZE, level_of, type_of
from helpers.traces import CD, CLEAR, HEADER, cr0, wrmsr
from mtrrzap.gfn import Range
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Slot, Trace
from mtrrzap.kvm.audit import audit
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import OLDER, POLICIES, Ask, Policy, Walk, by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.tdp import Memslot
from mtrrzap.kvm.vcpu import Vcpu, power_on, step
from mtrrzap.x86.ept import EptType

Leaf = tuple[int, int, EptType | None]
"""First frame, level, type."""
Table = frozenset[Leaf]


class Brute:
    """All reachable page tables, as far as faults on a few frames make them."""

    def __init__(self, slots: list[Memslot], frames: Iterable[int], mask: MtMask) -> None:
        self.slots = {gfn: s for gfn in frames for s in slots if s.start <= gfn < s.end}
        self.mask = mask
        self.tables: set[Table] = {frozenset()}

    def faults(self, vcpus: Iterable[Vcpu]) -> None:
        """Let any vCPU fault on any frame, any number of times, with any size of page."""
        installed = {
            (gfn, leaf)
            for vcpu in set(vcpus)
            for gfn in self.slots
            for leaf in self.leaf(gfn, vcpu)
        }
        todo = list(self.tables)
        while todo:
            table = todo.pop()
            for gfn, leaf in installed:
                if any(holds(other, gfn) for other in table):
                    continue
                first, end = leaf[0], leaf[0] + SIZE[leaf[1]]
                made = frozenset(other for other in table if not first <= other[0] < end) | {leaf}
                if made not in self.tables:
                    self.tables.add(made)
                    todo.append(made)

    def leaf(self, gfn: int, vcpu: Vcpu) -> Iterable[Leaf]:
        slot = self.slots[gfn]
        for level in range(1, level_of(slot, gfn, vcpu, self.mask) + 1):
            first = gfn - gfn % SIZE[level]
            yield first, level, type_of(slot, first, vcpu, self.mask)

    def zap(self, ranges: Iterable[Range]) -> None:
        for r in ranges:
            self.tables = {
                frozenset(leaf for leaf in t if self.stays(leaf, r)) for t in self.tables
            }

    def stays(self, leaf: Leaf, r: Range) -> bool:
        first, end = leaf[0], leaf[0] + SIZE[leaf[1]]
        if self.mask.policy.walk is Walk.MARK:
            top = SIZE[4]
            return not r.start // top <= first // top <= (r.end - 1) // top
        if self.mask.policy.walk in (Walk.LEAFS, Walk.TREES):
            return end <= r.start or first >= r.end
        return not (r.start <= first and end <= r.end)

    def types(self, gfn: int) -> set[EptType | None]:
        return {leaf[2] for table in self.tables for leaf in table if holds(leaf, gfn)}


def holds(leaf: Leaf, gfn: int) -> bool:
    return leaf[0] <= gfn < leaf[0] + SIZE[leaf[1]]


FRAMES = (0x10, 0x8F, 0x210, 0x3F0)
SLOTS = (Slot(0, 0x90, "ram"), Slot(0x200, 0x600, "ram"))
VCPUS = 2


def expected(events: list[Event], policy: Policy, host: Host) -> list[tuple[object, ...]]:
    """(event, frame, stale types, quiet) after each event, for those with a stale type."""
    running = {e.vcpu for e in events if e.kind in (Kind.WRMSR, Kind.CR0)}
    states = [power_on(HEADER.maxphyaddr)] * VCPUS
    asked = {r.event: r.ranges for r in replay(trace(events), policy, host)}
    mask = MtMask(policy, host)
    brute = Brute([Memslot(s.start, s.end, host.largest_page) for s in SLOTS], FRAMES, mask)
    brute.faults(states[v] for v in running)
    found: list[tuple[object, ...]] = []
    for position, event in enumerate(events):
        states[event.vcpu] = step(states[event.vcpu], event)[0]
        brute.zap(asked.get(position, ()))
        now = [states[v] for v in running]
        brute.faults(now)
        quiet = not any(state.updating for state in now)
        for gfn, slot in brute.slots.items():
            stale = brute.types(gfn) - {type_of(slot, gfn, vcpu, mask) for vcpu in now}
            if stale:
                found.append((position, gfn, frozenset(stale), quiet))
    return found


def trace(events: list[Event]) -> Trace:
    return Trace(replace(HEADER, vcpus=VCPUS, memslots=SLOTS), tuple(events))


def audited(events: list[Event], policy: Policy, host: Host) -> list[tuple[object, ...]]:
    findings = audit(trace(events), policy, host).findings
    found: list[tuple[object, ...]] = []
    for position in range(len(events)):
        here = [f for f in findings if f.begin <= position and (f.end or 99) > position]
        for gfn in FRAMES:
            over = [f for f in here if f.range.start <= gfn < f.range.end]
            quiet = {
                any(a <= position and (b is None or position < b) for a, b in f.quiet) for f in over
            }
            if over:
                found.append((position, gfn, frozenset(f.type for f in over), *quiet))
                assert len({f.type for f in over}) == len(over)
    return found


CLEAR_ONLY = replace(by_name("+9+10"), name="clear only", cd_toggle=Ask.WHILE_CD_CLEAR)
MASKS = [0xFFFFFFF800, 0xFFFFFFF000, 0xFFFFFF0800, 0xFFFFE00800, 0xFFFFC00800, 0xFFC0000800, 0]
vcpu = st.integers(0, VCPUS - 1)
some_event = st.one_of(
    st.builds(cr0, st.sampled_from([CD, CLEAR]), vcpu),
    st.builds(wrmsr, st.just(0x2FF), st.sampled_from([0, 6, 0x806, 0xC06, 0x800, 0xC00]), vcpu),
    st.builds(
        wrmsr,
        st.sampled_from([0x200, 0x202]),
        st.sampled_from([0, 0x10000, 0x10006, 0x200000, 0x200006, 0x210000, 0x3F0004]),
        vcpu,
    ),
    st.builds(wrmsr, st.sampled_from([0x201, 0x203]), st.sampled_from(MASKS), vcpu),
    st.builds(wrmsr, st.sampled_from([0x250, 0x258]), st.sampled_from([0, 6 * 0x01 << 8]), vcpu),
    st.builds(Event, vcpu, st.sampled_from([Kind.INIT, Kind.RESET])),
    st.builds(Event, vcpu, st.just(Kind.HOST_WRMSR), st.just(0x2FF), st.just(0)),
)
READY = [
    cr0(CLEAR),
    wrmsr(0x2FF, 0x806),
    wrmsr(0x201, 0xFFFFFF0800),
    wrmsr(0x200, 0x3F0000),
]


@st.composite
def some_events(draw: st.DrawFn) -> list[Event]:
    """Events of one or two vCPUs; of two, one often does what the other has just done."""
    vcpus = draw(st.integers(1, VCPUS))
    begin = READY[: draw(st.integers(0, len(READY)))]
    found = []
    for event in begin + draw(st.lists(some_event, max_size=6)):
        both = draw(st.booleans()) or event in READY
        who = range(vcpus) if both else [min(event.vcpu, vcpus - 1)]
        found += [event._replace(vcpu=number) for number in who]
    return found


hosts = st.builds(
    Host,
    quirk_cd_nw_cleared=st.booleans(),
    noncoherent_dma=st.sampled_from([True] * 9 + [False]),
    ept=st.sampled_from([True] * 9 + [False]),
    guest_has_mtrr=st.sampled_from([True, True, False]),
    largest_page=st.sampled_from([1, 2, 3, 2]),
)


@settings(max_examples=400, deadline=None)
@given(some_events(), st.sampled_from((*POLICIES, *OLDER, CLEAR_ONLY)), hosts)
def test_against_every_interleaving_of_faults(
    events: list[Event], policy: Policy, host: Host
) -> None:
    assert audited(events, policy, host) == expected(events, policy, host)
