"""Random guests that keep to the manual: which policies are right whatever such a guest does."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.guests import CLEAR, FIXED, UC8, WB8, WINDOW_CD, WP8, cr0, wrmsr
from helpers.traces import HEADER
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Slot, Trace
from mtrrzap.kvm.audit import audit
from mtrrzap.kvm.policy import POLICIES, Ask, ToggleRange, Walk
from mtrrzap.kvm.replay import Host

LAYOUTS = (
    (Slot(0, 0x100000, "ram"),),
    (Slot(0, 0xC0, "ram"), Slot(0xC0, 0x100, "rom"), Slot(0x100, 0xC0000, "ram")),
)
BASES = st.sampled_from([0x40000000, 0x40100004, 0x80000000, 0x80000006, 0xC0000006])
MASKS = st.sampled_from([0, 0xFFC0000800, 0xFF80000800, 0xFFFFF00800, 0xFFFFF00000])
write = st.one_of(
    st.tuples(st.sampled_from(FIXED), st.sampled_from([UC8, WB8, WP8])),
    st.tuples(st.sampled_from([0x200, 0x202]), BASES),
    st.tuples(st.sampled_from([0x201, 0x203]), MASKS),
)
window = st.tuples(
    st.sampled_from([0, 6, 0x406]),
    st.lists(write, max_size=4),
    st.sampled_from([0xC06, 0x806, 0xC00, 0x800]),
)


@st.composite
def boots(draw: st.DrawFn, *, resets: bool) -> Trace:
    """Windows with the same writes on every vCPU, one after the other or mixed."""
    vcpus = draw(st.integers(1, 3))
    events = [cr0(vcpu, CLEAR) for vcpu in range(vcpus)]
    for off, writes, on in draw(st.lists(window, min_size=1, max_size=3)):
        if draw(st.sampled_from([False, False, True])):
            kind = draw(st.sampled_from([Kind.INIT, Kind.RESET])) if resets else Kind.INIT
            events += [Event(vcpu, kind) for vcpu in range(vcpus)]
        own = [
            [
                cr0(vcpu, WINDOW_CD),
                wrmsr(vcpu, 0x2FF, off),
                *(wrmsr(vcpu, msr, value) for msr, value in writes),
                wrmsr(vcpu, 0x2FF, on),
                cr0(vcpu, CLEAR),
            ]
            for vcpu in range(vcpus)
        ]
        order = [vcpu for vcpu in range(vcpus) for _ in own[vcpu]]
        if draw(st.booleans()):
            order = draw(st.permutations(order))
        events += [own[vcpu].pop(0) for vcpu in order]
    header = replace(HEADER, vcpus=vcpus, memslots=draw(st.sampled_from(LAYOUTS)))
    return Trace(header, tuple(events))


@settings(max_examples=150, deadline=None)
@given(boots(resets=True))
def test_a_full_zap_on_every_toggle_is_right(boot: Trace) -> None:
    for policy in POLICIES:
        if policy.cd_toggle is Ask.ALWAYS and policy.toggle_range is ToggleRange.EVERYTHING:
            assert audit(boot, policy).verdict.word != "stale", policy.name


@settings(max_examples=100, deadline=None)
@given(boots(resets=True))
def test_without_the_quirk_every_policy_is_right(boot: Trace) -> None:
    host = Host(quirk_cd_nw_cleared=False)
    for policy in POLICIES:
        assert audit(boot, policy, host).verdict.word != "stale", policy.name


@settings(max_examples=150, deadline=None)
@given(boots(resets=False))
def test_fine_grained_toggles_are_right_without_reset_and_without_patch_12(boot: Trace) -> None:
    for policy in POLICIES:
        if policy.toggle_range is ToggleRange.FINE_GRAINED and policy.walk is Walk.LEAFS:
            assert audit(boot, policy).verdict.word == "right", policy.name
