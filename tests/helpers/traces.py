"""Small traces, and the events they are made of."""

from dataclasses import replace

from hypothesis import strategies as st

from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Header, Slot, Trace, dumps

CD, CLEAR = 0x60000011, 0x80050033


SLOTS = (Slot(0, 0xA0, "ram"), Slot(0x100, 0xC0000, "ram"), Slot(0x100000, 0x400000, "ram"))


def cr0(value: int, vcpu: int = 0) -> Event:
    return Event(vcpu, Kind.CR0, 0, value)


def wrmsr(msr: int, value: int, vcpu: int = 0) -> Event:
    return Event(vcpu, Kind.WRMSR, msr, value)


def trace(*events: Event) -> Trace:
    return Trace(replace(HEADER, memslots=SLOTS), events)


RESET = Event(0, Kind.RESET)


ENABLED = (RESET, cr0(CLEAR), wrmsr(0x2FF, 0xC06))


FINE = (
    *ENABLED,
    wrmsr(0x201, 0xFFC0000800),
    wrmsr(0x200, 0xC0000000),
    wrmsr(0x203, 0xFFFFF00800),
    wrmsr(0x202, 0x40000006),
)


HEADER = Header(
    firmware="SeaBIOS 1.16.2",
    guest_kernel="Linux 6.1.0",
    vcpus=4,
    memory=1 << 30,
    maxphyaddr=40,
    machine="pc-i440fx-7.2",
    recorder="mtrrzap 0.1.0",
    date="2026-11-23",
    command="qemu-system-x86_64",
    host_writes="none",
    memslots=(Slot(0, 0xA0, "ram"), Slot(0xE0, 0x100, "rom")),
    notes=("a note: with a colon",),
)


u64 = st.integers(0, 2**64 - 1)


times = st.none() | st.integers(0, 2**63)


vcpus = st.integers(0, 3)


events = st.one_of(
    st.builds(
        Event, vcpus, st.just(Kind.WRMSR), st.integers(0, 2**32 - 1), u64, st.booleans(), times
    ),
    st.builds(
        Event,
        vcpus,
        st.sampled_from([Kind.HOST_WRMSR, Kind.HELD_MSR]),
        st.integers(0, 2**32 - 1),
        u64,
        st.just(False),
        times,
    ),
    st.builds(
        Event,
        vcpus,
        st.sampled_from([Kind.CR0, Kind.HELD_CR0]),
        st.just(0),
        u64,
        st.just(False),
        times,
    ),
    st.builds(
        Event,
        vcpus,
        st.sampled_from([Kind.RESET, Kind.INIT]),
        st.just(0),
        st.just(0),
        st.just(False),
        times,
    ),
)


GOOD = dumps(Trace(HEADER, (Event(0, Kind.RESET), Event(0, Kind.CR0, 0, 0x11))))
